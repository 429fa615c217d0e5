"""The example in the documentation of the data set format is a valid one."""

import json
import re
from dataclasses import fields
from pathlib import Path

from gdmunet.dataset import DatasetDescriptor
from gdmunet.serialization import from_json
from gdmunet.volume_formats.table import FILE_ENDINGS

PAGE = (Path(__file__).parents[2] / "documentation" / "reference" / "dataset_format.md").read_text()


def test_the_example_of_dataset_json_is_read():
    block = re.search(r"^    \{\n.*?^    \}\n", PAGE, re.S | re.M)[0]
    descriptor = from_json(DatasetDescriptor, json.loads(block))
    assert descriptor.channels == ("MR",)
    assert descriptor.groups["p002"] == {"patient": "A", "region": "neck"}


def test_every_key_and_ending_is_explained():
    for name in [field.name for field in fields(DatasetDescriptor)] + list(FILE_ENDINGS):
        assert f"`{name}`" in PAGE
