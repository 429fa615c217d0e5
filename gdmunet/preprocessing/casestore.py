"""Prepared cases on disk, made for reading patches: only the chunks that a patch touches are read and unpacked.

A case is three files: ``CASE.b2nd`` (condition channels, then the target, float32), ``CASE_mask.b2nd`` (uint8, with a
sample of body voxels in its metadata) and ``CASE.json``, which is written last: a case without it is not finished.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdmunet import commands
from gdmunet.atomic import atomic_path
from gdmunet.errors import CommandLine, GdmError
from gdmunet.foreign import reading
from gdmunet.formats import FileFormat
from gdmunet.geometry import Shape
from gdmunet.plans import Plans
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.preprocessing.stored_array import LazyChannels, StoredArray
from gdmunet.provenance import cases_hash
from gdmunet.quantities import counted
from gdmunet.ranges import require
from gdmunet.serialization import format_json, load_json, to_json

if TYPE_CHECKING:
    import blosc2

CASE_FORMAT = FileFormat("prepared case")
MAX_BODY_VOXELS = 10_000
_BODY_VOXELS = "body_voxels"
# A chunk is what one read of the file unpacks at most; larger ones waste work, smaller ones compress worse.
_MAX_CHUNK_BYTES = 4 << 20
# A memory map of a file in use cannot be replaced on Windows.
_OPEN_OPTIONS: dict[str, Any] = {} if os.name == "nt" else {"mmap_mode": "r"}


@dataclass(frozen=True)
class CaseOrigin:
    """Sources of a prepared case; while they are unchanged, the case is too.

    `recipe` is a hash of all settings that matter; `files` maps each source file to its size and time of change.
    """

    recipe: str = ""
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseRecord:
    """The content of CASE.json."""

    properties: CaseProperties
    origin: CaseOrigin
    version: int = CASE_FORMAT.version


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on disk; the arrays are read when sliced.

    Attributes
    ----------
    condition, target
        (C, z, y, x) and (1, z, y, x) float32 in network units; target is None if the case has none.
    mask
        (z, y, x) uint8, 1 inside the body.
    properties
        Properties of the case.
    body_voxels
        (N, 3) indices (z, y, x) of at most 10,000 body voxels, drawn at random once.
    """

    condition: LazyChannels
    target: LazyChannels | None
    mask: StoredArray
    properties: CaseProperties
    body_voxels: np.ndarray


class CaseStore:
    """The prepared cases of one configuration of one data set's plans.

    Parameters
    ----------
    recipe
        Hash of the settings that the cases must have been prepared with; None: any.

    Attributes
    ----------
    folder
        Folder of the cases.
    """

    def __init__(
        self,
        preprocessed_dataset_folder: Path,
        plans_name: str,
        configuration_name: str,
        recipe: str | None = None,
    ) -> None:
        self.dataset, self.plans, self.configuration = (
            Path(preprocessed_dataset_folder).name,
            plans_name,
            configuration_name,
        )
        self.folder = Path(preprocessed_dataset_folder) / f"{plans_name}_{configuration_name}"
        self.recipe = recipe

    @classmethod
    def of(cls, preprocessed: Path, plans: Plans, configuration: str) -> CaseStore:
        """The cases that were prepared for these plans; cases of other plans are refused when they are opened."""
        recipe = cases_hash(plans.configuration(configuration), plans.dataset)
        return cls(preprocessed / plans.dataset_name, plans.name, configuration, recipe)

    def preparation(self, *flags: str) -> CommandLine:
        """The command that prepares the cases."""
        return commands.preprocess(self.dataset, self.configuration, self.plans, *flags)

    def identifiers(self) -> list[str]:
        """All finished cases, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def origin(self, identifier: str) -> CaseOrigin | None:
        """Sources of a finished case; None if there is none, or one of a newer version."""
        file = self.folder / f"{identifier}.json"
        if not file.is_file() or not all(path.is_file() for path in self._files(identifier)):
            return None
        try:
            return load_json(CaseRecord, file, file_format=CASE_FORMAT).origin
        except GdmError:
            # Whatever is written there is not a case that this version reads; it will be prepared anew.
            return None

    def check(self, identifiers: Collection[str]) -> tuple[str, ...]:
        """Refuse cases that were prepared for other plans; gives those that do not say for which.

        Raises
        ------
        GdmError
            Not prepared, damaged, or prepared with other settings.
        """
        return tuple(name for name in identifiers if not self._record(name).origin.recipe)

    def write(
        self, prepared: PreparedCase, window_size: Shape = (64, 64, 64), origin: CaseOrigin | None = None
    ) -> None:
        """Write a case; an earlier one of that name stays whole if anything fails.

        Parameters
        ----------
        prepared
            The case.
        window_size
            Patch (z, y, x) that will be read; chunks and blocks follow it.
        origin
            Sources that it was made from.

        Raises
        ------
        GdmError
            The disk is full, or the folder cannot be written to.
        """
        name = prepared.properties.identifier
        parts = [prepared.condition] + ([] if prepared.target is None else [prepared.target])
        values = np.concatenate(parts) if len(parts) > 1 else parts[0]
        packed_values = _pack(values, window_size)
        packed_mask = _pack(prepared.mask.astype(np.uint8), window_size, sample_body(prepared.mask, name))
        record = format_json(to_json(CaseRecord(prepared.properties, origin or CaseOrigin()))) + "\n"
        # Nothing is renamed before everything is written; the record, outermost, is renamed last.
        record_file = self.folder / f"{name}.json"
        values_file, mask_file = self._files(name)
        with (
            atomic_path(record_file) as record_path,
            atomic_path(mask_file) as mask_path,
            atomic_path(values_file) as values_path,
        ):
            values_path.write_bytes(packed_values)
            mask_path.write_bytes(packed_mask)
            record_path.write_bytes(record.encode())
            # From here on the parts of two cases may lie side by side: without a record they are not a case.
            record_file.unlink(missing_ok=True)

    def open(self, identifier: str) -> StoredCase:
        """Open a finished case.

        Raises
        ------
        GdmError
            Not prepared, prepared for other plans, or a file of it is missing or damaged.
        """
        properties = self._record(identifier).properties
        values_file, mask_file = self._files(identifier)
        shape, channels = properties.prepared_shape, len(properties.condition_maps)
        values = self._open(values_file, identifier)
        with self._readable(values_file, identifier):
            _check_array(values, np.float32, [(channels + target, *shape) for target in (0, 1)])
        mask = self._open(mask_file, identifier)
        with self._readable(mask_file, identifier):
            _check_array(mask, np.uint8, [shape])
            body_voxels = np.frombuffer(mask.schunk.vlmeta[_BODY_VOXELS], dtype=np.int32).reshape(-1, 3)
            inside = (body_voxels >= 0) & (body_voxels < np.asarray(shape))
            require(bool(inside.all()), "body voxels outside the case", body_voxels[:3].tolist(), f"below {shape}")
        stored = StoredArray(values, functools.partial(self._readable, values_file, identifier))
        return StoredCase(
            LazyChannels(stored, 0, channels),
            LazyChannels(stored, channels, channels + 1) if values.shape[0] > channels else None,
            StoredArray(mask, functools.partial(self._readable, mask_file, identifier)),
            properties,
            body_voxels,
        )

    def files(self, identifier: str) -> tuple[Path, ...]:
        """The files of a prepared case."""
        return (self.folder / f"{identifier}.json", *self._files(identifier))

    def remove(self, identifier: str) -> None:
        """Delete a case, its record first."""
        for path in self.files(identifier):
            path.unlink(missing_ok=True)

    def _record(self, identifier: str) -> CaseRecord:
        file = self.folder / f"{identifier}.json"
        if not file.is_file():
            raise GdmError(
                "the case is not prepared",
                case=identifier,
                file=file,
                found=counted(self.identifiers(), "prepared case"),
                command=self.preparation(),
            )
        record = load_json(CaseRecord, file, file_format=CASE_FORMAT)
        if self.recipe is not None and record.origin.recipe not in ("", self.recipe):
            size = " x ".join(f"{value:.3g}" for value in record.properties.prepared_spacing)
            raise GdmError(
                f"the case was not prepared for the plans {self.plans} as they are",
                case=identifier,
                file=file,
                found=f"prepared with voxels of {size} mm, by settings {record.origin.recipe[:12]}",
                expected=f"settings {self.recipe[:12]}: spacing, intensities, axes and patch of the plans",
                remedy="prepare the cases anew",
                command=self.preparation(),
            )
        return record

    def _open(self, path: Path, identifier: str) -> blosc2.NDArray:
        import blosc2  # here: planning and prediction open no store

        with self._readable(path, identifier):
            return blosc2.open(str(path), mode="r", dparams={"nthreads": 1}, **_OPEN_OPTIONS)

    @contextlib.contextmanager
    def _readable(self, path: Path, identifier: str) -> Iterator[None]:
        """What fails inside becomes the error of a damaged file of a case."""
        try:
            with reading("a file of the prepared case is missing or damaged", path):
                yield
        except GdmError as error:
            raise error.located(case=identifier, command=self.preparation("--clean")) from error.__cause__

    def _files(self, identifier: str) -> tuple[Path, Path]:
        return self.folder / f"{identifier}.b2nd", self.folder / f"{identifier}_mask.b2nd"


def sample_body(mask: np.ndarray, identifier: str) -> np.ndarray:
    """At most `MAX_BODY_VOXELS` voxel indices (N, 3) int32 inside the body; the same ones for the same case."""
    inside = np.flatnonzero(mask)
    if inside.size > MAX_BODY_VOXELS:
        generator = np.random.default_rng(list(identifier.encode()))
        inside = np.sort(generator.choice(inside, MAX_BODY_VOXELS, replace=False))
    return np.stack(np.unravel_index(inside, mask.shape), axis=1).astype(np.int32)


def chunk_shapes(shape: tuple[int, ...], window_size: Shape, item_bytes: int) -> tuple[tuple[int, ...], ...]:
    """Chunk and block shapes for reading patches of `window_size` from an array (..., z, y, x).

    A block (what is unpacked at least) is about half a patch per axis and one channel; a chunk (what is read at
    least) is about a patch, all channels, below 4 MiB.
    """
    spatial = shape[-3:]
    lead = shape[:-3]
    chunk = [min(size, max(1, window)) for size, window in zip(spatial, window_size, strict=True)]
    while np.prod([*lead, *chunk]) * item_bytes > _MAX_CHUNK_BYTES and max(chunk) > 1:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    block = [min(size, max(1, -(-window // 2))) for size, window in zip(chunk, window_size, strict=True)]
    return (*lead, *chunk), (*(1 for _ in lead), *block)


def _pack(array: np.ndarray, window_size: Shape, body_voxels: np.ndarray | None = None) -> bytes:
    """The bytes of a .b2nd file, made in memory, so that writing them fails as any file does."""
    import blosc2

    chunks, blocks = chunk_shapes(array.shape, window_size, array.itemsize)
    parameters: Mapping[str, Any] = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 1,  # 5 times as fast as level 5 for 1 % more bytes; LZ4 needs 12 to 40 % more
        "filters": [blosc2.Filter.SHUFFLE],
        "nthreads": 1,
        "typesize": array.itemsize,
    }
    packed = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=parameters)
    if body_voxels is not None:
        packed.schunk.vlmeta[_BODY_VOXELS] = body_voxels.tobytes()
    content: bytes = packed.to_cframe()
    return content


def _check_array(array: blosc2.NDArray, dtype: type, shapes: Sequence[tuple[int, ...]]) -> None:
    """The stored array is the one that its record describes (GdmError)."""
    fits = array.dtype == dtype and tuple(array.shape) in shapes
    require(fits, "the file holds another array than the case's record says", f"{array.shape} {array.dtype}",
            f"{' or '.join(map(str, shapes))} {np.dtype(dtype)}")  # fmt: skip
