"""Prepared cases that travel beside the tree: few-view CT of four persons, on which a GPU trains in 2D and in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gdmunet import plan_and_preprocess
from gdmunet.conversion.ct_files import find_ct_files
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, make_sparse_view_dataset
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.registry import BUILT_IN
from gdmunet.plans import Configuration, Fold, load_plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.preprocessor import PreparedCase
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.scan_spec import ScanSpec
from gdmunet.seeds import step_seed
from gdmunet.serialization import save_json
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.fold import FoldData

NUMBER, NAME, PLANS = 531, "FewViewGPU", "gdmPlans"
PERSONS = ("abdomen", "cranium", "heart", "lung")
HELD_OUT = ("heart", "lung")
SPACING = (3.0, 2.0, 2.0)
VIEWS = 36
SLICE_PATCH = (128, 128)
SLICES = 32


def prepare(folder: Path, data: Path) -> None:
    """Write the prepared data set from ``DATA/ct/*.nii.gz``, and say its size; once, on a CPU."""
    raw, work = folder / "raw", folder / "preprocessed"
    cts = {name: path for name, path in find_ct_files([data / "ct"]).items() if name in PERSONS}
    options = SparseViewOptions(convex_body=True)
    dataset = make_sparse_view_dataset(raw, NUMBER, NAME, cts, ScanSpec(views=VIEWS), options)
    (plans,) = plan_and_preprocess(
        dataset=(str(NUMBER),), planner="plain", configuration=("3d_fullres",), encoder=BUILT_IN, device="cpu",
        overwrite_target_spacing=SPACING, overwrite_plans_name=PLANS, processes=1, raw=raw, preprocessed=work,
    )  # fmt: skip
    training = tuple(name for name in PERSONS if name not in HELD_OUT)
    volumes = plans.configuration("3d_fullres")
    plans = replace(
        plans,
        configurations={"3d_fullres": volumes, "2d": _slices_of(volumes)},
        folds=(Fold(training, HELD_OUT),),
    )
    save_json(plans, folder / "plans.json")
    prepared, kept = CaseStore(work / dataset.folder.name, PLANS, "3d_fullres"), _cases_of(folder)
    for name in prepared.identifiers():
        case = prepared.open(name)
        assert case.target is not None
        rounded = PreparedCase(_rounded(case.condition[:]), _rounded(case.target[:]), case.mask[:] > 0, case.properties)
        kept.write(rounded, volumes.window_size)
    print(f"{kept.folder}: {size_of(kept.folder) / 2**20:.1f} MiB; {raw} and {work} may be deleted")


def _rounded(values: np.ndarray) -> np.ndarray:
    """To 13 of 24 bits, which costs at most 0.4 HU and packs to half the size."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**13) / 2**13, exponent).astype(np.float32)


def _cases_of(folder: Path) -> CaseStore:
    """The cases of a folder that `prepare` wrote."""
    store = CaseStore(folder, PLANS, "3d_fullres")
    store.folder = folder / "cases"
    return store


def _slices_of(volumes: Configuration) -> Configuration:
    """Whole slices of the same prepared cases, for a small 2D network."""
    preset = PRESETS["tiny"]
    topology = plan_topology(SPACING[1:], SLICE_PATCH, preset.max_poolings)
    units = VolumeUnits.of(volumes, "CT")
    encoder = choose_encoder(BUILT_IN, units, 2, EncoderOptions(Path("encoders"))).spec
    return replace(
        volumes,
        name="2d",
        spacing=volumes.spacing[1:],
        patch_size=topology.patch_size,
        batch_size=SLICES,
        network=preset.network(topology, 1, volumes.network.residual_channel),
        encoder=encoder,
    )


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def fold_of(stores: Path, configuration: str) -> FoldData:
    """The fold of the prepared cases; both configurations read the same files."""
    plans = load_plans(stores / "plans.json")
    store = _cases_of(stores)
    (fold,) = plans.folds
    return FoldData(plans, plans.configuration(configuration), "0", store, fold.training, fold.validation)


def small(fold: FoldData) -> FoldData:
    """The fold with a network and patches that a CPU takes steps with, for a dry run."""
    whole = fold.configuration
    preset, patch = PRESETS["tiny"], (16,) * whole.dimensions
    topology = plan_topology((1.0,) * whole.dimensions, patch, preset.max_poolings)
    network = preset.network(topology, 1, whole.network.residual_channel)
    return replace(fold, configuration=replace(whole, patch_size=patch, batch_size=2, network=network))


def prepared_case(fold: FoldData, name: str) -> PreparedCase:
    """A whole case of the store, as a predictor takes it."""
    case = fold.store.open(name)
    assert case.target is not None
    return PreparedCase(case.condition[:], case.target[:], case.mask[:] > 0, case.properties)


def centre_of(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The part of that shape about the middle of an array."""
    lows = [extent // 2 - part // 2 for extent, part in zip(array.shape, shape, strict=True)]
    return array[tuple(slice(low, low + part) for low, part in zip(lows, shape, strict=True))]


@dataclass(frozen=True)
class ResidentCases:
    """Whole cases on the device, of which a patch is a slice of a tensor: no reading stands beside what is measured.

    Attributes
    ----------
    volumes
        (C + 2, z, y, x) of each case: conditions, target, mask; padded to the patch at least.
    """

    volumes: tuple[torch.Tensor, ...]
    names: tuple[str, ...]
    patch: tuple[int, ...]

    @classmethod
    def of(cls, fold: FoldData, device: torch.device, patch: Sequence[int]) -> ResidentCases:
        """The training cases of a fold."""
        return cls(tuple(_padded(fold, name, device, patch) for name in fold.training), fold.training, tuple(patch))

    def batch(self, iteration: int, size: int) -> Batch:
        """A batch that is a function of the iteration: any window of any case, mirrored at random."""
        rng = np.random.default_rng(step_seed(12345, iteration))
        patches, names = [], []
        for _ in range(size):
            number = int(rng.integers(len(self.volumes)))
            patches.append(self._patch(self.volumes[number], rng))
            names.append(self.names[number])
        values = torch.stack(patches)
        return Batch(values[:, :-2], values[:, -2:-1], values[:, -1:], tuple(names))

    def _patch(self, volume: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        window = (1,) * (4 - 1 - len(self.patch)) + self.patch
        corner = [int(rng.integers(extent - part + 1)) for extent, part in zip(volume.shape[1:], window, strict=True)]
        places = tuple(slice(low, low + part) for low, part in zip(corner, window, strict=True))
        found = volume[(slice(None), *places)]
        found = found[:, 0] if len(self.patch) == 2 else found
        flips = [axis + 1 for axis in range(len(self.patch)) if rng.random() < 0.5]
        return found.flip(flips) if flips else found


def _padded(fold: FoldData, name: str, device: torch.device, patch: Sequence[int]) -> torch.Tensor:
    case = fold.store.open(name)
    assert case.target is not None
    mask = np.asarray(case.mask[:], np.float32)[None]
    values = torch.from_numpy(np.concatenate([case.condition[:], case.target[:], mask])).to(device)
    window = (1,) * (3 - len(patch)) + tuple(patch)
    missing = [max(0, part - extent) for extent, part in zip(values.shape[1:], window, strict=True)]
    amounts = [amount for size in reversed(missing) for amount in (size // 2, size - size // 2)]
    body = torch.nn.functional.pad(values[None], amounts, mode="replicate")[0]
    body[-1:] = torch.nn.functional.pad(values[-1:], amounts)  # nothing beyond the volume is body
    return body
