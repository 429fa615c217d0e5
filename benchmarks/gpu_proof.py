"""What a GPU is asked on the day that one is there: ten minutes, a line of JSON for each result.

    python benchmarks/gpu_proof.py OUT --stores FOLDER          # on the GPU; OUT/rows.jsonl, log.txt, branch_*
    python benchmarks/gpu_proof.py OUT --only steps volume      # these parts alone, which share the time
    python benchmarks/gpu_proof.py OUT --dry --stores FOLDER    # every part on a CPU: proves the script, no figure
    python benchmarks/gpu_proof.py --prepare FOLDER DATA        # beforehand: prepared cases from DATA/ct/*.nii.gz
    python benchmarks/gpu_proof.py --bundle FOLDER              # beforehand: wheels for a machine without a network
    python benchmarks/gpu_proof.py --scores OUT --stores FOLDER # afterwards, on a CPU: scores of the branches

Each part runs in a process of its own with a deadline, so that a hang or a crash ends that part alone; time that it
leaves goes to the later ones. The machine needs Python 3.12 with torch, NumPy, SciPy, scikit-image, safetensors,
matplotlib, tqdm, psutil and pytest; the wheels of the bundle hold the rest:

    pip install --no-index --no-deps --target site FOLDER/*.whl && export PYTHONPATH=site:.

SimpleITK is not among them: it is large, and no file is read. A stand-in takes its name where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from gpu_parts import schedule
from gpu_parts.setting import Setting

HERE = Path(__file__).parent
STAND_IN = HERE / "gpu_parts" / "stand_in"


def main() -> int:
    """Run what is asked for; the status is the number of parts that did not end well."""
    arguments = _arguments()
    sys.path.insert(0, str(HERE.parent))
    if importlib.util.find_spec("SimpleITK") is None:
        sys.path.append(str(STAND_IN))
    if arguments.bundle:
        from gpu_parts.wheels import fetch_wheels

        fetch_wheels(arguments.bundle, arguments.stores)
    elif arguments.prepare:
        from gpu_parts.stores import prepare

        prepare(*arguments.prepare)
    elif arguments.scores:
        from gpu_parts.scores import score_branches

        score_branches(arguments.scores, arguments.stores)
    elif arguments.part:
        deadline = arguments.deadline or time.time() + 60 * arguments.minutes
        setting = Setting(arguments.out, arguments.stores, arguments.dry, deadline, arguments.part)
        setting.out.mkdir(parents=True, exist_ok=True)
        schedule.run_part(arguments.part, setting)
    else:
        chosen = tuple(arguments.only or ())
        seconds = 60 * arguments.minutes
        return schedule.run_all(schedule.RunOptions(arguments.out, arguments.stores, arguments.dry, chosen, seconds))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=schedule.names(), metavar="PART", help=", ".join(schedule.names()))
    parser.add_argument("--dry", action="store_true", help="on the CPU, small and short")
    parser.add_argument("--stores", type=Path, help="folder of prepared cases")
    parser.add_argument("--minutes", type=float, default=10.0, help="all parts together")
    parser.add_argument("--prepare", type=Path, nargs=2, metavar=("FOLDER", "DATA"), help="write prepared cases")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="download the wheels, and say all sizes")
    parser.add_argument("--scores", type=Path, metavar="OUT", help="score the branches of an earlier run")
    parser.add_argument("--part", choices=schedule.names(), help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.out is None and not (arguments.prepare or arguments.bundle or arguments.scores):
        parser.error("OUT is missing")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
