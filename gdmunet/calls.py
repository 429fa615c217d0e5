"""The commands as Python functions: the same options by keyword, the same folders, the same checks.

A keyword is a field of the command's request; a value is refused as the command line refuses it. Folders are found as
the commands find them: the keyword, else the variable (``GDM_RAW``, ...), else ``./gdm_raw`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gdmunet.paths import Folders, find_folders
from gdmunet.promises import promises_kept
from gdmunet.workflows.requests.declaration import Request
from gdmunet.workflows.requests.shared import check_url, scheduled

if TYPE_CHECKING:
    from gdmunet.evaluation.scores.summary import Summary
    from gdmunet.inference.folder import PredictedCases
    from gdmunet.parts import OpenParts
    from gdmunet.plans import Plans
    from gdmunet.workflows.compare import WrittenComparison

R = TypeVar("R", bound=Request)
Result = TypeVar("Result")
FOLDERS = ("raw", "preprocessed", "results")


def new_dataset(**options: Any) -> Path:
    """Build a raw data set from folders of files, as ``gdm_new_dataset`` does.

    Parameters
    ----------
    options
        Fields of `NewDatasetRequest`, such as ``dataset=600, name="Heads", images=["mr"], targets="ct", channel=["MR"],
        target="CT"``, and ``raw``.

    Returns
    -------
    The data set's folder.

    Raises
    ------
    GdmError
        The error of the command.
    """
    from gdmunet.workflows.convert import new_dataset as run
    from gdmunet.workflows.requests.datasets import NewDatasetRequest

    return _call(NewDatasetRequest, run, options)


def plan_and_preprocess(**options: Any) -> list[Plans]:
    """Fingerprint, plan and preprocess data sets, as ``gdm_plan_and_preprocess`` does.

    Parameters
    ----------
    options
        Fields of `PlanAndPreprocessRequest`, such as ``dataset=600``, and ``raw``, ``preprocessed``.

    Returns
    -------
    The plans of each data set.

    Raises
    ------
    GdmError
        The error of the command: it names the case, the file, what is wrong and the remedy.
    """
    from gdmunet.workflows.plan_and_preprocess import plan_and_preprocess as run
    from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest

    return _call(PlanAndPreprocessRequest, run, options)


def train(**options: Any) -> Path:
    """Train one fold and validate it, as ``gdm_train`` does.

    Parameters
    ----------
    options
        Fields of `TrainRequest`, such as ``dataset=600, configuration="3d_fullres", fold=0, settings={"epochs": 5}``,
        and ``raw``, ``preprocessed``, ``results``.

    Returns
    -------
    The model's folder.

    Raises
    ------
    GdmError
        The error of the command.
    """
    from gdmunet.workflows.requests.training import TrainRequest
    from gdmunet.workflows.train import train as run

    return _call(TrainRequest, run, options)


def predict(**options: Any) -> PredictedCases:
    """Predict a folder of cases, as ``gdm_predict`` does. `Predictor` does the same in memory.

    Parameters
    ----------
    options
        Fields of `PredictRequest`, such as ``input="new_mr", output="new_ct"``, and ``results``.

    Returns
    -------
    The cases that were predicted, and those that were there already.

    Raises
    ------
    GdmError
        The error of the command.
    """
    from gdmunet.workflows.predict import predict as run
    from gdmunet.workflows.requests.prediction import PredictRequest

    return _call(PredictRequest, run, options)


def evaluate(**options: Any) -> Summary | OpenParts:
    """Score predictions against references, as ``gdm_evaluate`` does.

    Parameters
    ----------
    options
        Fields of `EvaluateRequest`, such as ``reference="ct", prediction="new_ct"``.

    Returns
    -------
    The content of summary.json: scores of each case, statistics, groups. Of a part: the parts that are missing, if any.

    Raises
    ------
    GdmError
        The error of the command.
    """
    from gdmunet.workflows.evaluate import evaluate as run
    from gdmunet.workflows.requests.evaluation import EvaluateRequest

    return _call(EvaluateRequest, run, options)


def compare(**options: Any) -> WrittenComparison:
    """Train, predict and score several trainers on the same folds, as ``gdm_compare`` does.

    Parameters
    ----------
    options
        Fields of `CompareRequest`, such as ``dataset=600, configuration="2d", trainers=["GDMTrainer"]``.

    Returns
    -------
    The comparison and its files.

    Raises
    ------
    GdmError
        The error of the command.
    """
    from gdmunet.workflows.compare import compare as run
    from gdmunet.workflows.requests.training import CompareRequest

    return _call(CompareRequest, run, options)


def _call(kind: type[R], run: Callable[[R, Folders], Result], options: dict[str, Any]) -> Result:
    folders = {name: options.pop(name) for name in FOLDERS if name in options}
    request = kind(**options)
    found = find_folders(**folders)
    check_url(request, found)
    with scheduled(request), promises_kept():
        return run(request, found)
