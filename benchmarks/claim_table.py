"""The table, the decision and the curve of the claim, from the rows that are there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from claim_arms import ARMS, FIDELITY
from claim_scores import FILTERED
from protocol import judge_name

from gdmunet.evaluation.comparison.price import price_of_distance
from gdmunet.evaluation.distributions.resampling import BootstrapSpec
from gdmunet.metrics import METRICS

# The classifier on patches of one plane has no row among the metrics of the package.
SLICES = "c2st_slices"
SHOWN = ("mae", "psnr", "ms_ssim", "detail", "fsc_quarter", "fsc_half", "nps", "c2st")
Rows = dict[str, dict[int, dict]]


def read_rows(work: Path) -> Rows:
    """Arm to seed to row; only seeds that fidelity and its filtered predictions have."""
    rows: Rows = {}
    for file in sorted((work / "rows").glob("*.json")):
        row = json.loads(file.read_text())
        row["frechet"] = {judge_name(judge): value for judge, value in row["frechet"].items()}
        rows.setdefault(row["arm"], {})[row["seed"]] = row
    known = rows.get(FIDELITY, {}).keys() & rows.get(FIDELITY + FILTERED, {}).keys()
    ordered = [name + suffix for name in ARMS for suffix in ("", FILTERED) if name + suffix in rows]
    return {name: {seed: row for seed, row in rows[name].items() if seed in known} for name in ordered}


def mean_of(row: dict, metric: str) -> float:
    """Mean over the cases; nan if none has the score (the classifier needs two cases)."""
    return float(np.mean([case.get(metric, np.nan) for case in row["cases"].values()]))


def against(rows: Rows, name: str, reference: str, value) -> np.ndarray:
    """value(arm) / value(reference) - 1 for each seed."""
    return np.array([value(row) / value(rows[reference][seed]) - 1 for seed, row in rows[name].items()])


def decide(rows: Rows, name: str) -> dict[str, bool | str]:
    """The rule that was written before the runs: against filtered fidelity, at an MAE at most 1 % above fidelity's."""
    reference = FIDELITY + FILTERED
    error = against(rows, name, FIDELITY, lambda row: mean_of(row, "mae")).mean()
    judges = rows[name][min(rows[name])]["frechet"]
    nearer = [against(rows, name, reference, lambda row, j=j: row["frechet"][j]).mean() <= -0.2 for j in judges]
    shells = np.mean(
        [mean_of(row, "fsc_half") - mean_of(rows[reference][s], "fsc_half") for s, row in rows[name].items()]
    )
    return {
        "MAE at most +1 %": bool(error <= 0.01),
        "(i) FD -20 % in each judge": all(nearer),
        "(ii) C2ST -20 %": bool(classifier_change(rows, name) <= -0.2),
        "(iii) FSC 1/2 not lower": bool(shells >= -0.005),
    }


def classifier_change(rows: Rows, name: str) -> float:
    """Change of C2ST - 0.5 against filtered fidelity of the same seeds."""
    return float(against(rows, name, FIDELITY + FILTERED, lambda row: abs(mean_of(row, "c2st") - 0.5)).mean())


def stronger_claim(rows: Rows, name: str) -> tuple[float, tuple[float, float]]:
    """Mean and interval of MAE(arm) - MAE(fidelity); cases and seeds are drawn apart: seeds are not further cases."""
    differences = np.array([
        [row["cases"][case]["mae"] - rows[FIDELITY][seed]["cases"][case]["mae"] for case in row["cases"]]
        for seed, row in rows[name].items()
    ])  # fmt: skip
    drawn = BootstrapSpec()
    seeds, cases = drawn.draws(len(differences)), replace(drawn, seed=1).draws(differences.shape[1])
    means = differences[seeds[:, :, None], cases[:, None, :]].mean((1, 2))
    return float(differences.mean()), drawn.interval(means)


def price_text(price: float | None) -> str:
    """A price ratio; a distance that came with a lower error was free."""
    if price is None:
        return "-"
    return "free" if price <= 0 else f"{price:.2f}"


def table(rows: Rows) -> str:
    """All arms, their change against fidelity, the decision, and the stronger claim, as Markdown."""
    judges = list(next(iter(rows[FIDELITY].values()))["frechet"])
    heads = [
        "arm",
        "seeds",
        *(METRICS[name].head("HU") for name in SHOWN),
        "C2ST in slices",
        *(f"FD ({j})" for j in judges),
        *(f"rho ({j})" for j in judges),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, of_arm in rows.items():
        cells = [name, str(len(of_arm))]
        for metric in SHOWN:
            values = [mean_of(row, metric) for row in of_arm.values()]
            cells.append(" ± ".join(METRICS[metric].text(float(f(values)), "HU") for f in (np.mean, np.std)))
        cells.append(f"{np.mean([mean_of(row, SLICES) for row in of_arm.values()]):.3f}")
        errors = against(rows, name, FIDELITY, lambda row: mean_of(row, "mae"))
        for judge in judges:
            changes = 100 * against(rows, name, FIDELITY, lambda row, j=judge: row["frechet"][j])
            cells.append(f"{changes.mean():+.0f} ± {changes.std():.0f} %")
        for judge in judges:
            shares = 1 + against(rows, name, FIDELITY, lambda row, j=judge: row["frechet"][j])
            price = price_of_distance(1 + float(errors.mean()), float(shares.mean()))
            cells.append(price_text(price if name != FIDELITY else None))
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| arm | MAE against fidelity | "
        + " | ".join(decide(rows, FIDELITY))
        + " | C2ST - 0.5 against filtered fidelity | MAE - MAE of fidelity, HU [95 %] |",
    ]
    lines.append("|" + " --- |" * 8)
    for name in rows:
        error = 100 * against(rows, name, FIDELITY, lambda row: mean_of(row, "mae")).mean()
        mean, (low, high) = stronger_claim(rows, name)
        marks = ["yes" if holds else "no" for holds in decide(rows, name).values()]
        lines.append(
            f"| {name} | {error:+.2f} % | {' | '.join(marks)} | {100 * classifier_change(rows, name):+.0f} % "
            f"| {mean:+.2f} [{low:+.2f}, {high:+.2f}] |"
        )
    return "\n".join(lines) + "\n"


def draw_curve(rows: Rows, file: Path) -> None:
    """MAE against distance of every arm, with an arrow to its filtered predictions; one panel for each judge."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    judges = list(next(iter(rows[FIDELITY].values()))["frechet"])
    figure, panels = pyplot.subplots(1, len(judges), figsize=(6.5 * len(judges), 5.5), squeeze=False)
    colours = pyplot.get_cmap("tab20")
    for panel, judge in zip(panels[0], judges, strict=True):
        for number, name in enumerate(n for n in rows if not n.endswith(FILTERED)):
            points = [
                (100 * against(rows, one, FIDELITY, lambda row: mean_of(row, "mae")).mean(),
                 1 + against(rows, one, FIDELITY, lambda row, j=judge: row["frechet"][j]).mean())
                for one in (name, name + FILTERED) if one in rows
            ]  # fmt: skip
            panel.plot(*zip(*points, strict=True), "-", color=colours(number % 20), linewidth=1)
            panel.plot(*points[0], "o", color=colours(number % 20), label=name)
            panel.plot(*points[-1], "^", color=colours(number % 20), markersize=5)
        panel.set(title=judge, xlabel="MAE against fidelity, %", ylabel="Frechet distance over fidelity's")
        panel.axvline(1, color="grey", linestyle=":", linewidth=1)
    named = panels[0][0].get_legend_handles_labels()
    figure.legend(*named, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle("circle: as predicted, triangle: behind the best unsharp mask")
    figure.tight_layout()
    figure.savefig(file, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
