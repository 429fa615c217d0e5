"""Runs GPU work without a GPU: fake tensors on ``cuda:0``, whose waits, uploads and kernels are counted.

usage: python tests/rehearsal/rehearse.py [WORD ...] [--sites] [--out FILE]

Cases whose names hold one of the words, or all. `--sites` shows the lines that wait and copy, and those with most
kernels; `--out` writes what was counted as JSON.
"""

import stand_in

stand_in.load()

# Below this line torch is imported, which looks for a GPU's device guard and hooks once.
import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "samples"))

from fake_gpu import Counts, rehearsal  # noqa: E402
from part_cases import part_cases  # noqa: E402
from planned import prepare  # noqa: E402
from training_cases import training_cases  # noqa: E402


def run(case) -> dict[str, object]:
    """What a case counted, or where it failed."""
    started = time.process_time()
    counts, error = Counts(), None
    try:
        with rehearsal() as watch:
            counts = case(watch)
    except Exception:
        error = traceback.format_exc()
    found: dict[str, object] = {what: dict(counted) for what, counted in vars(counts).items()}
    return found | {"error": error, "seconds": time.process_time() - started}


def show(name: str, found: dict, sites: bool) -> None:
    say = sys.stdout.write
    if found["error"]:
        say(f"FAILED {name}\n{found['error']}\n")
        return
    waits, uploads, kernels = (sum(found[what].values()) for what in ("waits", "uploads", "kernels"))
    say(f"{name}: {waits} waits, {uploads} uploads, {kernels} kernels, {found['seconds']:.1f} CPU s\n")
    for what in ("waits", "uploads", "kernels", "dtypes") if sites else ():
        for site, count in sorted(found[what].items(), key=lambda item: -item[1])[:40]:
            say(f"  {what} {count:5d} {site}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--sites", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prepare()
    found = {}
    for name, case in (training_cases() | part_cases()).items():
        if not arguments.words or any(word in name for word in arguments.words):
            found[name] = run(case)
            show(name, found[name], arguments.sites)
    if arguments.out:
        arguments.out.write_text(json.dumps(found))
    return int(any(one["error"] for one in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
