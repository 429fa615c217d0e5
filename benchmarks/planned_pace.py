"""The time that planning and training foretell, against the time that a training took.

usage: python benchmarks/planned_pace.py [FOLDER] [--hours 0.1] [--trainer FidelityTrainer]

Makes head phantoms, plans them for ``--hours`` with the preset ``tiny`` on the CPU, trains a fold as planned, and
prints what the plans, the first estimate of the training and each epoch's ``seconds_left`` said, beside what came. A
busy machine changes its pace meanwhile: the load is printed as well.
"""

import argparse
import json
import os
import re
import tempfile
import time
from pathlib import Path

import gdmunet
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.results import ResultsFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--hours", type=float, default=0.1)
    parser.add_argument("--trainer", default="FidelityTrainer")
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    places = {"raw": folder / "raw", "preprocessed": folder / "preprocessed"}
    quiet = {"show_progress": False, "device": "cpu"}
    make_phantom_demo(places["raw"], cases=4, size=arguments.size, show_progress=False)
    plans = gdmunet.plan_and_preprocess(
        dataset=502, planner="tiny", trainer=arguments.trainer, configuration=["3d_fullres"], hours=arguments.hours,
        processes=1, **quiet, **places,
    )[0]  # fmt: skip
    reason = next(one for one in plans.reasons if one.choice.endswith("length"))
    print(f"plans: {reason.value}; {reason.because}")
    begun, load = time.monotonic(), os.getloadavg()[0]
    gdmunet.train(
        dataset=502, configuration="3d_fullres", fold="0", plans=plans.name, trainer=arguments.trainer, processes=0,
        results=folder / "results", **quiet, **places,
    )  # fmt: skip
    print(f"training took {time.monotonic() - begun:.0f} s; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    fold = next(iter(ResultsFolder(folder / "results").models())).fold(0)
    print(*re.findall("the whole run ends.*", fold.log.read_text()), sep="\n")
    rows = [json.loads(line) for line in fold.journal.read_text().splitlines()]
    took = [row["seconds"] + (row.get("validation_seconds") or 0.0) for row in rows]
    for number, row in enumerate(rows):
        if row.get("seconds_left"):
            print(
                f"epoch {number + 1}: said {row['seconds_left']:.0f} s to the end, came {sum(took[number + 1 :]):.0f} s"
            )


if __name__ == "__main__":
    main()
