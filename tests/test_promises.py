"""At its end a command counts what it wrote."""

import pytest

from gdmunet.errors import GdmError
from gdmunet.promises import check_promised


def test_files_that_are_gone_are_named(tmp_path):
    files = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for file in files:
        file.write_bytes(b"1")
    check_promised(files)
    files[1].unlink()
    with pytest.raises(GdmError, match="1 of 3 files") as caught:
        check_promised(files)
    assert caught.value.found == "missing: b.nii.gz"
    assert caught.value.remedy
