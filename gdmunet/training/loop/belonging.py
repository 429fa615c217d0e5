"""Whether a fold's results belong to the present plans, cases and trainer; compared before they are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdmunet import commands
from gdmunet.checkpoint import CheckpointMetadata, load_metadata
from gdmunet.errors import CommandLine, GdmError
from gdmunet.plan_folder import unused_name
from gdmunet.plans import Plans, load_plans
from gdmunet.provenance import (
    ProvenanceSpec,
    encoder_hash,
    plans_differences,
    plans_hash,
    settings_hash,
    split_differences,
    split_hash,
    trainer_hash,
)
from gdmunet.results import CheckpointName, FoldFolder, ModelFolder
from gdmunet.serialization import load_json, to_json
from gdmunet.training.loop.state import TrainingState, changed_settings
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.registry import named_trainers, nearest_named, own_sources
from gdmunet.training.trainers.trainer import Trainer

_FOLDS = "folds"


def provenance_of(kind: type[Trainer], data: FoldData) -> ProvenanceSpec:
    """The hashes of a training of that class on that fold."""
    encoder = encoder_hash(data.configuration.encoder) if kind.uses_encoder else None
    return ProvenanceSpec(
        plans=plans_hash(data.plans, data.configuration.name),
        encoder=encoder,
        split=split_hash(data.split),
        settings=settings_hash(to_json(as_planned(kind, data.configuration).settings())),
        trainer=trainer_hash(nearest_named(kind).__name__, own_sources(kind)),
    )


def unwritten_weights(state: TrainingState, folder: FoldFolder) -> list[CheckpointName]:
    """The weights that a run which was killed after its resume state has not written."""
    names: list[CheckpointName] = ["latest"]
    names += ["best"] if state.best_iteration == state.iteration else []
    files = {name: folder.checkpoint(name) for name in names}
    return [
        name for name, file in files.items() if not file.is_file() or load_metadata(file).iteration < state.iteration
    ]


@dataclass(frozen=True)
class Belonging:
    """A training that was asked for, against what lies in its model folder.

    Attributes
    ----------
    kind
        Class of the trainer.
    data
        Prepared cases of the fold.
    folder
        Results of the fold.
    """

    kind: type[Trainer]
    data: FoldData
    folder: FoldFolder

    @property
    def model(self) -> ModelFolder:
        """Results of all folds."""
        return ModelFolder(self.folder.path.parent)

    def other_folds(self) -> list[FoldFolder]:
        """The other folds of the model that have weights."""
        return [fold for fold in self.model.folds() if fold.path != self.folder.path and fold.checkpoints()]

    def check_own(self, checkpoint: CheckpointName | None = None) -> list[str]:
        """Refuse to go on with, or to validate, a fold that was trained on other plans, another split or class.

        Parameters
        ----------
        checkpoint
            Weights that will be used; None: the newest.

        Returns
        -------
        Lines that say what could not be compared.

        Raises
        ------
        GdmError
            Says what differs, and the command that leads on.
        """
        metadata = _metadata(self.folder, checkpoint)
        if metadata is None:
            return []
        theirs, present = metadata.provenance, provenance_of(self.kind, self.data)
        differing = set(theirs.differing(present))
        earlier = self._earlier_plans()
        if theirs.plans is None and earlier is not None and self._other_configuration(earlier):
            differing.add("plans")
        if theirs.split is None and earlier is not None and self._other_fold(earlier):
            differing.add("split")
        self._refuse(self.folder, differing - {"settings"}, earlier)
        unknown = (
            set(present.unknown(theirs)) - {"settings", "plans"} - ({"split"} if self.data.fold != "all" else set())
        )
        return [_not_compared(self.folder, unknown)] if unknown else []

    def check_beside(self) -> list[str]:
        """Refuse a fold beside others of the model with other plans, folds or settings, or of another class.

        Raises
        ------
        GdmError
            Says what differs, and the command that leads on.
        """
        others, present, lines = self.other_folds(), provenance_of(self.kind, self.data), []
        earlier = self._earlier_plans() if others else None
        of_plans = set()
        if earlier is not None:
            of_plans |= {"plans"} if self._other_configuration(earlier) else set()
            of_plans |= {_FOLDS} if earlier.folds != self.data.plans.folds else set()
        for other in others:
            metadata = _metadata(other)
            assert metadata is not None
            theirs = metadata.provenance
            differing = of_plans | set(theirs.differing(present)) - {"split", "settings"}
            if "all" in (other.fold, self.data.fold):  # fold all uses none of the plans
                differing -= {_FOLDS}
            self._refuse(other, differing, earlier)
            self._refuse_settings(other, metadata)
            if unknown := set(present.unknown(theirs)) & {"trainer", "encoder"}:
                lines.append(_not_compared(other, unknown))
        return lines

    # ---- its parts --------------------------------------------------------------------------------------------

    def _earlier_plans(self) -> Plans | None:
        file = self.model.plans
        return load_plans(file) if file.is_file() else None

    def _other_configuration(self, earlier: Plans) -> bool:
        name = self.data.configuration.name
        return name not in earlier.configurations or plans_hash(earlier, name) != plans_hash(self.data.plans, name)

    def _other_fold(self, earlier: Plans) -> bool:
        if self.data.fold == "all":
            return False
        return int(self.data.fold) >= len(earlier.folds) or split_hash(
            earlier.folds[int(self.data.fold)]
        ) != split_hash(self.data.split)

    def _refuse(self, fold: FoldFolder, differing: set[str], earlier: Plans | None) -> None:
        own = fold.path == self.folder.path
        for what in ("plans", "encoder", "split", _FOLDS):
            if what in differing:
                raise self._plans_error(fold, what, earlier, own)
        if "trainer" in differing:
            raise GdmError(
                f"fold {fold.fold} was trained by another class of the name {self.kind.__name__}",
                file=fold.path,
                found="a class with another base or source code",
                expected=f"{self.kind.__module__}:{self.kind.__qualname__} as it is",
                remedy="give the class a name of its own" + (", or start over with --overwrite" if own else ""),
            )

    def _plans_error(self, fold: FoldFolder, what: str, earlier: Plans | None, own: bool) -> GdmError:
        plans, store = self.data.plans, self.data.store
        there, here = self._described(fold, what, earlier)
        nouns = {"plans": "other plans", "encoder": "another encoder", "split": "another split", _FOLDS: "other folds"}
        place = f"fold {fold.fold} was trained with" if own else f"the model's fold {fold.fold} was trained with"
        problem = f"{place} {nouns[what]} than the present plans {plans.name} have"
        if own and (what != "split" or self.data.fold != "all"):
            file = store.folder.parent / f"{plans.name}.json"
            return GdmError(
                problem,
                file=self.model.plans,
                found=there,
                expected=here,
                remedy=f"copy {self.model.plans} over {file} and run {{command}}, "
                "to go on with the plans of this fold; or plan under another name (-overwrite_plans_name), to train on "
                "the new ones",
                command=store.preparation(),
            )
        return GdmError(
            problem,
            file=self.model.plans,
            found=there,
            expected=here,
            remedy="give the new plans a name of their own, with the flags that you planned with, and train with -p "
            "and that name",
            command=self._planning_under_another_name(earlier),
        )

    def _described(self, fold: FoldFolder, what: str, earlier: Plans | None) -> tuple[str, str]:
        """What differs, of the fold and of the present plans."""
        name = self.data.configuration.name
        if what == "plans" and earlier is not None and name in earlier.configurations:
            pairs = plans_differences(earlier, self.data.plans, name)
            if pairs:
                return "; ".join(left for left, _ in pairs), "; ".join(right for _, right in pairs)
        if what == "split":
            theirs = load_json(type(self.data.split), fold.split) if fold.split.is_file() else None
            if theirs is None and earlier is not None and self.data.fold != "all":
                theirs = earlier.fold(self.data.fold)
            if theirs is not None:
                return "; ".join(split_differences(theirs, self.data.split)), "the split that it was trained with"
        if what == _FOLDS and earlier is not None:
            return f"{len(earlier.folds)} folds of other cases", f"the {len(self.data.plans.folds)} folds of the plans"
        return f"{what} that differ" if what == "plans" else f"another {what}", f"the {what} of the present plans"

    def _planning_under_another_name(self, earlier: Plans | None) -> CommandLine:
        plans, configuration = self.data.plans, self.data.configuration
        flags = ["-pl", plans.planner, "-c", configuration.name]
        known = named_trainers()
        flags += [word for name in plans.trainer.split(" and ")[:1] if name in known for word in ("-tr", name)]
        if earlier is not None and configuration.dimensions == 3 and configuration.name == "3d_fullres":
            before = earlier.configurations.get(configuration.name)
            if before is not None and before.spacing != configuration.spacing:
                canonical = sorted(zip(configuration.transpose, configuration.spacing, strict=True))
                flags += ["-overwrite_target_spacing", *(f"{size:g}" for _, size in canonical)]
        name = unused_name(self.data.store.folder.parent, plans.name)
        return commands.plan_and_preprocess(plans.dataset_name, *flags, "-overwrite_plans_name", name)

    def _refuse_settings(self, other: FoldFolder, metadata: CheckpointMetadata) -> None:
        """The folder's name has the settings that a user gave; here those of another version or class differ."""
        planned = as_planned(self.kind, self.data.configuration)
        saved, present = metadata.settings, to_json(planned.settings())
        if changed := changed_settings(saved, present, saved.keys() & present.keys()):
            raise GdmError(
                f"the model's fold {other.fold} was trained with other settings",
                file=other.path,
                found="; ".join(changed),
                expected="the same settings for all folds of a model",
                remedy="say these settings with --set: they become part of the model's name",
            )


def _metadata(folder: FoldFolder, checkpoint: CheckpointName | None = None) -> CheckpointMetadata | None:
    """Origin of the weights; None: they are not there, which whoever needs them says."""
    names: Sequence[CheckpointName] = ("latest", "final", "best") if checkpoint is None else (checkpoint,)
    files = [file for name in names if (file := folder.checkpoint(name)).is_file()]
    return load_metadata(files[0]) if files else None


def _not_compared(fold: FoldFolder, unknown: set[str]) -> str:
    return (
        f"note: fold {fold.fold} was trained by an earlier version of gdmunet; its {' and '.join(sorted(unknown))} "
        "could not be compared"
    )
