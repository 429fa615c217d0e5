"""The rows of the ablation as tables: a row a file, so that an interrupted run goes on where it stood."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path


def row_file(work: Path, seed: int, name: str) -> Path:
    return work / "rows" / f"{''.join(c if c.isalnum() else '_' for c in name)}-{seed}.json"


COLUMNS = {
    "mae": "MAE HU",
    "psnr": "PSNR dB",
    "ms_ssim": "MS-SSIM",
    "detail": "fine detail",
    "frechet": "Frechet",
    "mmd": "MMD",
    "random_frechet": "Frechet (random)",
    "random_mmd": "MMD (random)",
    "mini_frechet": "Frechet (mini)",
    "seconds_per_iteration": "s / iteration",
    "peak_memory_mb": "MB",
}
RELATIVE = ("mae", "detail", "frechet", "mmd", "random_frechet", "random_mmd", "mini_frechet")


def table(work: Path, compared: Mapping[str, str]) -> str:
    """Mean and spread over the seeds, and the changes against an arm of the same seed, as Markdown.

    `compared` has the arms in the order of the table, each with the one that it is compared with.
    """
    rows = {(row["arm"], row["seed"]): row for row in map(json.loads, (f.read_text() for f in rows_of(work)))}
    found = [(name, [row for (arm, _), row in rows.items() if arm == name]) for name in compared]
    found = [(name, of_arm) for name, of_arm in found if of_arm]
    heads = ["arm", "seeds", *COLUMNS.values()]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, of_arm in found:
        cells = [mean_and_spread([row[key] for row in of_arm], ".4g") for key in COLUMNS]
        lines.append(f"| {name} | {len(of_arm)} | {' | '.join(cells)} |")
    heads = ["change in % against fidelity of the same seed and order", "seeds", *(COLUMNS[key] for key in RELATIVE)]
    lines += ["", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, of_arm in found:
        other = compared[name]
        if name == other:
            continue
        pairs = [(row, rows[other, row["seed"]]) for row in of_arm if (other, row["seed"]) in rows]
        cells = [mean_and_spread([100 * (a[key] / b[key] - 1) for a, b in pairs], "+.1f") for key in RELATIVE]
        lines.append(f"| {name} | {len(pairs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rows_of(work: Path) -> list[Path]:
    return sorted((work / "rows").glob("*.json"))


def mean_and_spread(values: list[float], form: str) -> str:
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}" if values else ""
