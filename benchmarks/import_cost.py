"""CPU seconds until a command's code is imported, against PyTorch alone: by turns, medians.

    python benchmarks/import_cost.py [--rounds 5]
    python benchmarks/import_cost.py --tree gdmunet.workflows.train

``--tree`` lists what the import of one module costs, without what PyTorch imports. Libraries that
must not be loaded are in `tests/test_import_cost.py`.
"""

import argparse
import re
import statistics
import subprocess
import sys

from process_tree import measure

ROWS = {
    "torch alone": "import torch",
    "gdm_train": "import gdmunet.workflows.train",
    "a loader of patches": "import gdmunet.training.patches.stream",
    "gdm_plan_and_preprocess": "import gdmunet.workflows.plan_and_preprocess",
    "gdm_predict": "import gdmunet.workflows.predict",
    "gdm_evaluate": "import gdmunet.workflows.evaluate",
    "gdm_extract_fingerprint, gdm_preprocess": "import gdmunet.workflows.preparation",
    "import gdmunet": "import gdmunet",
    "Python alone": "pass",
}
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( *)(\S+)")
_SHOWN_MS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tree", metavar="MODULE")
    arguments = parser.parse_args()
    if arguments.tree:
        show_tree(arguments.tree)
        return
    used: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(arguments.rounds):
        for name, statement in ROWS.items():
            used[name].append(measure([sys.executable, "-c", statement]).cpu_s)
    torch_alone = statistics.median(used["torch alone"])
    print("| what | CPU s | times torch |\n| --- | --- | --- |")
    for name, seconds in used.items():
        print(f"| {name} | {statistics.median(seconds):.2f} | {statistics.median(seconds) / torch_alone:.2f} |")


def show_tree(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True, check=True
    )
    for line in reversed(done.stderr.splitlines()):
        if (found := _LINE.match(line)) and int(found[2]) > 1000 * _SHOWN_MS and not found[4].startswith("torch."):
            print(f"{int(found[2]) / 1000:6.0f} ms {'  ' * (len(found[3]) // 2)}{found[4]}")


if __name__ == "__main__":
    main()
