"""deepbet's encoder with its published weights as a judge, as ``benchmarks/deepbet_judge.py:factory``.

pip install --no-deps deepbet==1.0.2
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "samples"))


def deepbet_weights() -> Path:
    """Beside the installed package, which need not be importable."""
    spec = importlib.util.find_spec("deepbet")
    if spec is None or spec.origin is None:
        return Path("deepbet-is-not-installed")
    return Path(spec.origin).parents[1] / "data" / "models" / "model.pt"


def factory(file, units, dimensions, trust_checkpoint):
    from deepbet_encoder import factory as build

    return build(file or deepbet_weights(), units, dimensions, trust_checkpoint)
