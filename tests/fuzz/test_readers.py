"""Every reader gives a value or an error: drawn values by hypothesis, and a quick part of the mutation loop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.checkpoint import CheckpointMetadata
from gdmunet.dataset import DatasetDescriptor
from gdmunet.encoders.download import DownloadRecord
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.paired import Comparison
from gdmunet.evaluation.scores.summary import Summary
from gdmunet.foreign import parse_json
from gdmunet.inference.prediction_settings import PredictionSpec
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import Plans
from gdmunet.preprocessing.case_record import CaseRecord
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.serialization import from_json, parse_as

LOOP = Path(__file__).parent / "fuzz.py"
KINDS = (
    CaseRecord, CheckpointMetadata, Comparison, DatasetDescriptor, DownloadRecord, Fingerprint, NetworkSpec, Plans,
    PredictionSpec, Summary,
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def drawn(kind):
    """Objects with the keys of a dataclass and values of any kind."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(kind.__dataclass_fields__, VALUES)) | VALUES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_content_gives_a_value_or_an_error(kind, data):
    content = data.draw(drawn(kind))
    try:
        assert isinstance(from_json(kind, content), kind)
    except GdmError as error:
        str(error).encode("utf-8")


@given(VALUES)
def test_any_json_is_parsed_as_it_is_or_refused(content):
    text = json.dumps(content)
    try:
        parsed = parse_json(text)
    except ValueError:
        return
    assert json.dumps(parsed) == text


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_parsed_or_refused(content):
    with pytest.raises(GdmError):
        parse_as(Plans, content, "plans")


@pytest.mark.skipif(sys.platform == "win32", reason="the loop forks its children")
def test_a_part_of_the_mutation_loop(tmp_path):
    """300 inputs; by hand ``python tests/fuzz/fuzz.py --inputs 100000``."""
    words = [sys.executable, str(LOOP), "--inputs", "300", "--seed", "2026", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all | 300 |" in done.stdout
