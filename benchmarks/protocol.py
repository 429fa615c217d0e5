"""One folder of work holds the runs of one protocol: those of another would stand beside them unseen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.results import FoldFolder
from gdmunet.serialization import to_json

if TYPE_CHECKING:
    from gdmunet.training.trainers.trainer import Trainer


def judge_name(judge: str) -> str:
    """A judge's name without its folder and function, which another checkout has elsewhere."""
    return judge.rsplit("/", 1)[-1].partition("_judge.py")[0].partition("_encoder.py")[0]


def check_protocol(work: Path, protocol: Mapping[str, object]) -> None:
    """Note the protocol in a fresh WORK; refuse one whose runs were made with another, or with an unknown one."""
    file = work / "protocol.json"
    if file.exists():
        if (earlier := json.loads(file.read_text())) != protocol:
            raise SystemExit(f"{work} holds runs of {earlier}, this call asks for {protocol}: give another WORK")
        return
    if (work / "gdm_results").exists():
        raise SystemExit(f"{work} holds runs of an unknown protocol: give another WORK")
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(protocol, indent=1))


def check_defaults(fold: FoldFolder, settings: Mapping[str, object]) -> None:
    """Refuse a fold that was trained with other settings: a folder's name has those alone that differ from a default.

    Parameters
    ----------
    settings
        All of the trainer's settings as they are now.
    """
    from gdmunet.training.loop.state import changed_settings  # brings PyTorch

    earlier = json.loads(fold.settings.read_text()) if fold.settings.exists() else {}
    now = to_json(settings)
    if changed := changed_settings(earlier, now, earlier.keys() & now.keys()):
        raise SystemExit(f"{fold.path} was trained with other defaults ({'; '.join(changed)}): remove it")


def check_run(fold: FoldFolder, kind: type[Trainer], plans: Path, configuration: str) -> None:
    """Refuse a fold that `gdm_train` trained with other defaults, sizes from the plans among them."""
    from gdmunet.plans import load_plans
    from gdmunet.training.trainers.planned_sizes import as_planned  # brings PyTorch

    check_defaults(fold, as_planned(kind, load_plans(plans).configuration(configuration)).settings())
