"""Part 3: what the parts of the method's step take, with the built-in encoder and with one of MedVAE's shape."""

from __future__ import annotations

import argparse

from step_cost import Bench, part_seconds

from gpu_parts.setting import Setting


def run(setting: Setting) -> None:
    """A row for each encoder and patch."""
    shape = f"gpu_parts.medvae_shape:{'build_narrow' if setting.dry else 'build'}"
    for encoder, edge in (
        ("mini", setting.pick(128, 16)),
        (shape, setting.pick(96, 16)),
        (shape, setting.pick(128, 16)),
    ):
        name = "mini" if encoder == "mini" else "MedVAE's shape, random weights"
        setting.attempt(f"{name}, {edge}^3", lambda row=(encoder, edge): measure(setting, *row))
        if setting.dry and encoder != "mini":
            return


def measure(setting: Setting, encoder: str, edge: int) -> dict[str, object]:
    """Milliseconds by part, and the method's step over fidelity's."""
    arguments = argparse.Namespace(
        device=str(setting.device), patch=edge, batch=2, preset="tiny" if setting.dry else "plain", encoder=encoder,
        precision="auto",
    )  # fmt: skip
    bench = Bench(arguments)
    setting.restart_peak()
    parts = part_seconds(bench, setting.pick(5, 1))
    ratio = parts["method step, all of it"] / parts["fidelity step, all of it"]
    return {
        "edge": edge, "precision": bench.precision, "method_over_fidelity": ratio,
        "ms": {name: round(1000 * seconds, 3) for name, seconds in parts.items()}, **setting.peak_mb(),
    }  # fmt: skip
