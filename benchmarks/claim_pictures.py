"""Pictures of the claim: what fidelity, its best filter and an arm of GDM make of the same places.

usage: python benchmarks/claim_pictures.py WORK OUT [--arm transport] [--seed 1] [--cases NAME ...]

WORK is the folder of ``benchmarks/claim.py``. For each data set that it holds: one picture of a held-out case
(condition, target, fidelity, fidelity behind the best unsharp mask, the arm; below them the differences from the
target, and a part of the slice enlarged), the power spectrum by share of Nyquist over all held-out cases, and error
against distance of every arm with and without the filter. OUT is a documentation folder: the page is
OUT/explanation/claim_pictures.md, its pictures lie in OUT/pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from claim_arms import FIDELITY
from claim_scores import FILTERED
from claim_table import draw_curve, mean_of, read_rows

from gdmunet.dataset import load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.hounsfield import HU_RANGE
from gdmunet.imageio import read_volume
from gdmunet.metrics.ranges import ValueRange
from gdmunet.metrics.spectrum import shell_spectra

WINDOW, LARGEST_DIFFERENCE = (-200.0, 400.0), 300.0
RANGE = ValueRange(*HU_RANGE, background=HU_RANGE[0])
ENLARGED = 0.35
"""Share of each side of the body's box that is shown enlarged."""


@dataclass(frozen=True)
class Shown:
    """One column: what it is called, and its folder."""

    title: str
    folder: Path


@dataclass(frozen=True)
class Held:
    """A held-out case: the volumes (z, y, x) by the titles of their columns, and the body."""

    condition: np.ndarray
    target: np.ndarray
    body: np.ndarray
    predictions: dict[str, np.ndarray]


def columns(work: Path, arm: str, seed: int) -> list[Shown]:
    names = [FIDELITY, FIDELITY + FILTERED, arm]
    return [Shown(name, work / "predictions" / _folder(name, seed)) for name in names]


def _folder(name: str, seed: int) -> str:
    """As ``claim_scores.score_arm`` names it: the filter comes behind the seed."""
    return f"{name.removesuffix(FILTERED)} {seed}{FILTERED if name.endswith(FILTERED) else ''}"


def read_held(raw: Path, case: str, shown: list[Shown]) -> Held:
    folders, ending = RawFolders(raw), load_descriptor(raw).file_ending
    read = {one.title: read_volume(one.folder / f"{case}{ending}", case).array for one in shown}
    body = read_volume(folders.masks / f"{case}{ending}", case).array > 0
    condition = read_volume(folders.images / f"{case}_0000{ending}", case).array
    return Held(condition, read_volume(folders.targets / f"{case}{ending}", case).array, body, read)


def draw_case(held: Held, file: Path) -> None:
    """Columns of one slice: whole, its difference from the target, a part enlarged."""
    from matplotlib import pyplot

    number = int(held.body.sum((1, 2)).argmax())
    rows, lines = (np.flatnonzero(held.body[number].any(axis)) for axis in (1, 0))
    whole = (slice(rows[0], rows[-1] + 1), slice(lines[0], lines[-1] + 1))
    part = tuple(_part(one) for one in whole)
    target = held.target[number]
    shown = {"condition": held.condition[number], "target": target}
    shown |= {title: volume[number] for title, volume in held.predictions.items()}
    tall = (whole[0].stop - whole[0].start) / (whole[1].stop - whole[1].start)
    figure, panels = pyplot.subplots(3, len(shown), figsize=(2.6 * len(shown), 2.6 * (2 * tall + 1) + 0.6))
    for column, (title, picture) in zip(panels.T, shown.items(), strict=True):
        limits = _limits(picture, held.body[number]) if title == "condition" else WINDOW
        column[0].imshow(picture[whole], cmap="gray", vmin=limits[0], vmax=limits[1])
        column[0].set_title(title, fontsize=9)
        if title in held.predictions:
            difference = np.where(held.body[number], picture - target, 0.0)[whole]
            drawn = column[1].imshow(difference, cmap="RdBu_r", vmin=-LARGEST_DIFFERENCE, vmax=LARGEST_DIFFERENCE)
            error = np.abs(held.predictions[title] - held.target)[held.body].mean()
            column[1].set_title(f"less the target; MAE {error:.1f} HU", fontsize=8)
        column[2].imshow(picture[part], cmap="gray", vmin=limits[0], vmax=limits[1])
        for panel in column:
            panel.axis("off")
    figure.colorbar(drawn, ax=panels[1, :2].tolist(), location="left", shrink=0.8, label="HU")
    figure.savefig(file, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def draw_spectra(cases: list[Held], file: Path) -> None:
    """Power by share of Nyquist over that of the target, sums over blocks of the cases, in dB."""
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.5, 4))
    for title in cases[0].predictions:
        found = [shell_spectra(one.target, one.predictions[title], RANGE, one.body) for one in cases]
        known = [one for one in found if one is not None]
        power, wanted = (sum(getattr(one, side).sum(0) for one in known) for side in ("prediction", "target"))
        shells = np.arange(1, len(power))
        panel.plot(shells / shells[-1], 10 * np.log10(power[1:] / wanted[1:]), "o-", label=title, linewidth=1)
    panel.axhline(0, color="grey", linestyle=":", linewidth=1)
    panel.set(xlabel="share of the Nyquist frequency", ylabel="power over the target's, dB")
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def pictures_of(work: Path, out: Path, arguments: argparse.Namespace) -> str:
    """Draw the pictures of one data set; its part of the page."""
    (raw,) = (work / "gdm_raw").iterdir()
    rows = read_rows(work)
    if arguments.arm not in rows or arguments.seed not in rows[arguments.arm]:
        there = ", ".join(name for name in rows if not name.endswith(FILTERED))
        raise SystemExit(f"{work}: no row of {arguments.arm} with seed {arguments.seed}; there are {there}")
    names = list(rows[arguments.arm][arguments.seed]["cases"])
    shown = columns(work, arguments.arm, arguments.seed)
    cases = {name: read_held(raw, name, shown) for name in names}
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    text = [f"## {work.name}: {raw.name}", ""]
    for name in (n for n in names if arguments.cases is None or n in arguments.cases):
        draw_case(cases[name], pictures / f"claim_{work.name}_{name}.png")
        text += [f"`{name}`, held out, seed {arguments.seed}, the slice with most body:", ""]
        text += [f"![the same slice of {name} by every column](../pictures/claim_{work.name}_{name}.png)", ""]
    draw_spectra(list(cases.values()), pictures / f"claim_{work.name}_spectrum.png")
    draw_curve(rows, pictures / f"claim_{work.name}_curve.png")
    scores = "; ".join(
        f"{one.title} {mean_of(rows[one.title][arguments.seed], 'mae'):.1f} HU" for one in shown if one.title in rows
    )
    text += [
        f"Power spectrum over {len(cases)} held-out cases (0 dB: the target's); mean MAE {scores}:",
        "",
        f"![power by share of Nyquist](../pictures/claim_{work.name}_spectrum.png)",
        "",
        "Error against distance of every arm, means over seeds; a line leads from an arm (circle) to its filtered "
        "predictions (triangle):",
        "",
        f"![error against distance](../pictures/claim_{work.name}_curve.png)",
        "",
    ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arm", default="transport")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", nargs="+")
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    parts = [
        pictures_of(work, arguments.out, arguments)
        for work in sorted(arguments.work.iterdir())
        if (work / "rows").is_dir()
    ]
    if not parts:
        raise SystemExit(f"{arguments.work} holds no data set with rows: run benchmarks/claim.py first")
    page = arguments.out / "explanation" / "claim_pictures.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    head = [
        "# Pictures of the claim",
        "",
        "What was claimed, and the table that decides, is in [the method](method.md) and "
        "[the benchmarks](../benchmarks.md). "
        "These pictures show the same places of held-out people: condition, target, fidelity alone, fidelity behind "
        f"its best unsharp mask, and the arm `{arguments.arm}`. CT is windowed from {WINDOW[0]:.0f} to "
        f"{WINDOW[1]:.0f} HU.",
        "",
        f'Made by `python benchmarks/claim_pictures.py WORK documentation --arm "{arguments.arm}" '
        f"--seed {arguments.seed}` from the folder of `benchmarks/claim.py`.",
        "",
    ]
    page.write_text("\n".join([*head, *parts]))
    print(f"written: {page}")


def _part(whole: slice) -> slice:
    """The middle of a range, `ENLARGED` of it."""
    size = whole.stop - whole.start
    start = whole.start + round(size * (1 - ENLARGED) / 2)
    return slice(start, start + max(8, round(size * ENLARGED)))


def _limits(picture: np.ndarray, body: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(picture[body], (1, 99))
    return float(low), float(high)


if __name__ == "__main__":
    main()
