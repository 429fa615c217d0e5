import pytest

from gdmunet.errors import GdmError
from gdmunet.journal import read_journal


def test_a_half_written_last_line_is_left_out(tmp_path):
    file = tmp_path / "journal.jsonl"
    for end in ("", '{"epoch": 2, "lo', "\0\0\0", "\n\n"):
        file.write_text('{"epoch": 0}\n{"epoch": 1}\n' + end)
        assert read_journal(file) == ({"epoch": 0}, {"epoch": 1})
    file.write_bytes(b'{"epoch": 0}\n{"name": "\xc3')
    assert read_journal(file) == ({"epoch": 0},)


@pytest.mark.parametrize("line", ['{"epoch": 1', "1", "oops"])
def test_any_other_line_that_is_not_an_object_is_named(tmp_path, line):
    file = tmp_path / "journal.jsonl"
    file.write_text(f'{{"epoch": 0}}\n{line}\n{{"epoch": 2}}\n')
    with pytest.raises(GdmError, match=f"line 2: {line}"):
        read_journal(file)
