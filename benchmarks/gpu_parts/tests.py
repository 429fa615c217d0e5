"""Part 1, its tests: pytest -m gpu, on the CPU against itself where the run is dry."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

from gpu_parts.setting import Setting

ROOT = Path(__file__).parents[2]
FILES = ("tests/gpu", "tests/tomography/test_projector.py", "tests/training/patches/test_patches.py")


def run(setting: Setting) -> None:
    """A row for each test, and one for all."""
    report = (setting.out / "tests.xml").resolve()
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}", *FILES]
    command += ["--cpu-as-gpu"] if setting.dry else []
    paths = [str(ROOT), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent / "stand_in")]
    found = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})
    if not report.is_file():
        raise SystemExit(f"pytest ended with status {found.returncode} and wrote no report")
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in xml.parse(report).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        result = "passed" if not bad else "skipped" if bad[0].tag == "skipped" else "failed"
        counts[result] += 1
        if result != "passed":
            message = (bad[0].get("message") or "")[:400]
            setting.row(f"{case.get('classname')}::{case.get('name')}", result=result, message=message)
    report.unlink()
    setting.row("all", status=found.returncode, **counts)
    if found.returncode:
        raise SystemExit(found.returncode)
