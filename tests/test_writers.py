"""Every file is written by atomic.py: no other place in the package writes to a name that lasts."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gdmunet"
FILES = sorted(PACKAGE.rglob("*.py"))
# Calls that write, by the last part of their name; those of `replace` and `rename` with one argument are a path's.
WRITERS = {
    "write_text", "write_bytes", "save", "savez", "savez_compressed", "save_file", "savefig", "WriteImage", "dcmwrite",
    "save_as", "copy2", "copyfile", "copytree", "touch", "hardlink_to", "symlink_to", "dump", "mkdtemp",
    "NamedTemporaryFile", "tofile", "to_csv", "SummaryWriter", "TemporaryDirectory",
}  # fmt: skip
OWN = {"write_text", "write_bytes"}  # also functions of atomic.py, which are called by their bare name
SAFE = {"atomic_path", "atomic_file", "atomic_files", "atomic_folder", "scratch_folder", "_written"}
# What writes to a path that its caller got from atomic.py, or is not a file of a user.
ALLOWED = {
    "atomic.py": "the writer itself",
    "claims.py": "a claim is linked to its name, which a rename cannot do",
    "file_sources.py": "writes to the path that the copied store got from atomic_path",
    "volume_formats/itk.py": "writes to the path that imageio and the conversions hand it",
    "volume_formats/nifti.py": "writes to the path that imageio and the conversions hand it",
    "conversion/folders.py": "fills a folder of atomic_folder",
    "inference/container.py": "fills a folder of atomic_folder",
    "inference/network_export.py": "fills a folder of atomic_folder",
    "inference/archive.py": "unpacks into a temporary folder, which is then renamed",
    "dicom/reading.py": "a temporary file of the system's temporary folder",
    "training/loop/trackers.py": "the trackers' own streams of events, copies of the journal",
    "training/crew.py": "a folder of the system's temporary folder, in which processes say how they end",
    "training/loop/loop.py": "Loop.save, which calls save_weights",
    "workflows/doctor/storage.py": "a probe of the disk, which goes at once",
    "encoders/pretraining.py": "Pretraining.save, which uses atomic_file",
}


def name_of(call):
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def opens_for_writing(call):
    modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    return name_of(call) in ("open", "fdopen", "ZipFile") and any(
        isinstance(mode, str) and len(mode) <= 3 and set(mode) & set("wax+") for mode in modes
    )


def writes(call):
    name = name_of(call)
    bare = isinstance(call.func, ast.Name)
    if opens_for_writing(call):
        return True
    if name in ("replace", "rename") and not bare:
        return len(call.args) == 1 and not call.keywords
    return name in WRITERS and not (bare and name in OWN)


def safe_names(tree, call):
    """Names that a `with` of atomic.py around a call binds."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(inner is call for inner in ast.walk(node)):
            for item in node.items:
                made = item.context_expr
                if isinstance(made, ast.Call) and name_of(made) in SAFE and isinstance(item.optional_vars, ast.Name):
                    names.add(item.optional_vars.id)
    return names


def writers_of(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
        if writes(call) and not used & safe_names(tree, call):
            yield f"{call.lineno}: {ast.unparse(call)[:80]}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_writes_through_atomic_alone(file):
    if file.relative_to(PACKAGE).as_posix() not in ALLOWED:
        assert list(writers_of(file)) == []


def test_every_exception_is_needed():
    for name in ALLOWED:
        assert list(writers_of(PACKAGE / name)), name


def test_a_writer_is_found(tmp_path):
    (tmp_path / "a.py").write_text(
        "with atomic_path(p) as t:\n    t.write_text('x')\nq.write_text('x')\nopen(q, 'w')\nnp.save(q, a)\n"
        "q.rename(p)\ntext.replace('a', 'b')\nopen(q)\nwrite_text(q, 'x')\n"
    )
    assert [one.split(":")[0] for one in writers_of(tmp_path / "a.py")] == ["3", "4", "5", "6"]
