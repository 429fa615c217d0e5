"""The recipe for a file format: one file in `gdmunet.volume_formats`, and no other."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prediction_samples import SPACING, body_of, make_head, make_model

import gdmunet
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.volume_formats.interface import VolumeFormat
from gdmunet.volume_formats.table import FILE_ENDINGS, FORMATS, companions_of, ending_of, format_of

PACKAGE = Path(gdmunet.__file__).parent
SAMPLES = Path(__file__).parents[1] / "samples" / "volume_formats"
# What a new file in the folder does, without writing into the package: the folder is searched in one more place.
WITH_TOY = f"import gdmunet.volume_formats; gdmunet.volume_formats.__path__.append({str(SAMPLES)!r})\n"


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", WITH_TOY + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_format_of_one_file_is_predicted_from_and_to(tmp_path):
    """The volumes are those that the same model predicts from NIfTI."""
    head = make_head()
    grid = Geometry(head.shape, SPACING, (1.0, 2.0, 3.0))
    for name, array in (("in/a_0000", head.astype(np.int16)), ("masks/a", body_of(head))):
        write_volume(tmp_path / f"{name}.nii.gz", array, grid)
    make_model(tmp_path / "nifti", ("0",))
    run(
        f"""
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(SAMPLES.parent)!r})
from prediction_samples import make_descriptor, make_model
from gdmunet.cli.predict import main
from gdmunet.imageio import read_mask, read_volume, write_volume
work = Path({str(tmp_path)!r})
condition, mask = read_volume(work / "in/a_0000.nii.gz"), read_mask(work / "masks/a.nii.gz")
write_volume(work / "foo_in/a_0000.foo", condition.array.astype(np.int16), condition.geometry)
write_volume(work / "foo_masks/a.foo", mask.array, mask.geometry)
make_model(work / "foo", ("0",), descriptor=replace(make_descriptor(), file_ending=".foo"))
for kind, inputs, masks in (("nifti", "in", "masks"), ("foo", "foo_in", "foo_masks")):
    words = ["-i", inputs, "-o", "out_" + kind, "--mask", masks, "--results", kind]
    words = [word if word.startswith("-") else str(work / word) for word in words]
    assert main([*words, "-device", "cpu", "--no_pbar"]) == 0
given, toy = read_volume(work / "out_nifti/a.nii.gz"), read_volume(work / "out_foo/a.foo")
assert np.array_equal(given.array, toy.array) and toy.geometry.difference(given.geometry) is None
"""
    )
    assert (tmp_path / "out_foo" / "a.foo").is_file()


def test_its_ending_is_known_to_every_list_and_message(tmp_path):
    (tmp_path / "a.foo").write_bytes(b"no archive")
    printed = run(
        f"""
from pathlib import Path
from gdmunet.errors import GdmError
from gdmunet.imageio import read_volume
from gdmunet.volume_formats.files import find_volumes
from gdmunet.workflows.requests.datasets import FILE_ENDINGS
file = find_volumes(Path({str(tmp_path)!r}))["a"]
print(FILE_ENDINGS)
try:
    read_volume(file, "case_a")
except GdmError as error:
    print(error.case, error.file == file)
"""
    )
    assert printed.splitlines() == [repr((*FILE_ENDINGS, ".foo")), "case_a True"]


@pytest.mark.parametrize(
    ("ending", "owner"),
    [
        (".mha", "metaimage.py"),
        (".mhd", "metaimage.py"),
        (".zraw", "metaimage.py"),
        (".nrrd", "nrrd.py"),
        (".nhdr", "nrrd.py"),
        (".raw.gz", "nrrd.py"),
    ],
)
def test_no_file_outside_its_own_knows_an_ending(ending, owner):
    """`.nii.gz` alone is written elsewhere too: it is what converted data sets are stored in."""
    writers = [file for file in PACKAGE.rglob("*.py") if re.search(rf'"\{ending}"', file.read_text(encoding="utf-8"))]
    assert writers == [PACKAGE / "volume_formats" / owner]


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: type(one).__name__)
def test_each_format_gives_back_what_it_was_given(one, tmp_path):
    grid = Geometry((4, 5, 6), (3.0, 2.0, 1.0), (1.0, -2.0, 3.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    values = np.arange(120).reshape(4, 5, 6)
    for ending in one.endings:
        assert ending_of(Path(f"a{ending}")) == ending
        assert format_of(Path(f"a{ending}")) is one
        for number, array in enumerate((values.astype(np.int16), values.astype(np.float32) / 7, values > 60)):
            folder = tmp_path / f"{ending}{number}"
            folder.mkdir()
            file = folder / f"a{ending}"
            one.write(file, array, grid)
            others = [path for path in folder.iterdir() if path != file]
            assert all(path.name.endswith(companions_of(ending)) for path in others)
            assert one.parts(file) == (file, *others)
            read, geometry = one.read(file)
            assert np.array_equal(read, array)
            assert geometry.difference(grid) is None
            assert one.holds_whole_numbers(file) == (array.dtype != np.float32)
            one.rewrite(file, folder / f"b{ending}")
            assert np.array_equal(one.read(folder / f"b{ending}")[0], array)
            VolumeFormat.rewrite(one, file, folder / f"c{ending}")  # what a format gets that has no way of its own
            assert np.array_equal(one.read(folder / f"c{ending}")[0], array)


def test_endings_are_asked_for_without_a_heavy_library():
    program = "import sys, gdmunet.volume_formats.table; print([m for m in ('numpy', 'SimpleITK') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
