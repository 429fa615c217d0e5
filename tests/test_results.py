"""The results folder's names are written once, and are what documentation/reference/results.md promises."""

import ast
import re
from pathlib import Path

import pytest

import gdmunet
from gdmunet.errors import GdmError
from gdmunet.results import FoldFolder, ModelFolder, ModelName, ResultsFolder

PACKAGE = Path(gdmunet.__file__).parent
PAGE = PACKAGE.parent / "documentation" / "reference" / "results.md"
# Every name that gdmunet gives a file or folder of a model or of an evaluation, and the only file that may write it.
OWNERS = {
    r"(?<!demo_)summary\.json": "results.py",
    r"plans\.json": "results.py",
    r"checkpoint_": "results.py",
    r"journal\.jsonl": "results.py",
    r"(?<!ensemble_)(?<!prediction_)settings\.json": "results.py",
    r"training_log\.txt": "results.py",
    r"progress\.png": "results.py",
    r"resume\.pt": "results.py",
    r"(?<!\.)running\.json": "results.py",
    r"\.running\.json": "claims.py",
    r"comparison\.json": "results.py",
    r"report\.html": "results.py",
    r"best_configuration\.json": "results.py",
    r"inference_instructions\.txt": "results.py",
    r"validation_best": "results.py",
    r"^fold_$|fold_\*": "results.py",
    r"^__$|__\{|\}__": "results.py",
    r"Dataset\[0-9\]": "dataset_names.py",
    r"(?<!_)dataset\.json": "dataset_names.py",
    r"dataset_fingerprint": "plans.py",
    r"prediction_settings\.json": "inference/prediction_settings.py",
    r"ensemble_settings\.json": "inference/ensemble.py",
    r"projection_residuals\.json": "inference/cases/consistency.py",
    r"prediction_cost\.json": "workflows/measured_prediction.py",
    r"demo_summary\.json": "cli/demo_run.py",
    r"derived_masks": "preprocessing/mask_folders.py",
    r"^masks$|^(images|targets|masks)T[rs]": "dataset_names.py",
}
# The names in a model folder of nnU-Net are nnU-Net's own.
FOREIGN = "encoders/nnunet.py"


def texts(file: Path) -> list[str]:
    """The strings of a file without its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    strings = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [node.value for node in strings if id(node) not in docstrings]


TEXTS = {str(file.relative_to(PACKAGE).as_posix()): texts(file) for file in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize(("name", "owner"), OWNERS.items())
def test_a_file_name_is_written_in_one_file(name, owner):
    writers = [file for file, strings in TEXTS.items() if any(re.search(name, text) for text in strings)]
    assert [file for file in writers if file != FOREIGN] == [owner]


@pytest.fixture
def model(tmp_path) -> ModelFolder:
    return ResultsFolder(tmp_path).model("Dataset600_Heads", "FidelityTrainer-epochs=5", "gdmPlans", "3d_fullres")


def test_the_names_are_those_of_the_page(model, tmp_path):
    fold = model.fold(0)
    assert model.path == tmp_path / "Dataset600_Heads" / "FidelityTrainer-epochs=5__gdmPlans__3d_fullres"
    paths = [
        model.plans,
        fold.path,
        *(fold.checkpoint(name) for name in ("best", "final", "latest")),
        *(fold.resume, fold.settings, fold.split, fold.journal, fold.log, fold.progress_figure),
        *(fold.validation(), fold.finished),
    ]
    paths += [fold.running, fold.previous.path]
    listing = PAGE.read_text().split("`--overwrite` deletes")[0]
    assert [path.name for path in paths] == re.findall(r"^ {8,}([\w.]+)", listing, re.M)
    assert fold.validation("best").name == "validation_best"
    assert fold.summary() == fold.path / "validation" / "summary.json"
    assert model.fold("all").path.name == "fold_all"


def test_the_name_of_a_model_joins_and_splits(model):
    assert model.name == ModelName("FidelityTrainer-epochs=5", "gdmPlans", "3d_fullres")
    assert str(model.name) == model.path.name
    assert model.dataset == "Dataset600_Heads"
    with pytest.raises(GdmError, match="does not say which model"):
        _ = ModelFolder(Path("renamed")).name


def test_a_model_is_there_once_it_has_plans_and_a_checkpoint(model, tmp_path):
    results = ResultsFolder(tmp_path)
    fold = model.fold("1")
    fold.path.mkdir(parents=True)
    model.plans.touch()
    assert results.models() == []
    for name in ("latest", "best"):
        fold.checkpoint(name).touch()
    fold.resume.touch()
    assert results.models() == [model]
    assert model.folds() == [fold]
    assert model.trained_folds() == {"1": ("best", "latest")}
    assert [file.name for file in fold.trained_files()] == [
        "checkpoint_best.safetensors",
        "checkpoint_latest.safetensors",
        "resume.pt",
    ]
    model.plans.unlink()
    assert results.models() == []


def test_other_folders_of_a_data_set_have_names_too(model, tmp_path):
    results = ResultsFolder(tmp_path)
    dataset = tmp_path / "Dataset600_Heads"
    assert results.comparison(dataset.name, "gdmPlans", "2d") == dataset / "comparisons" / "gdmPlans__2d"
    other = results.model(dataset.name, "GDMTrainer", "gdmPlans", "2d")
    assert results.ensemble(dataset.name, [model, other]).name == f"{model.path.name}___GDMTrainer__gdmPlans__2d"
    assert results.encoder_run(dataset.name, "gdmPlans", "2d", "0") == dataset / "encoders" / "gdmPlans_2d_fold_0"
    assert FoldFolder(dataset / "x" / "fold_all").fold == "all"
