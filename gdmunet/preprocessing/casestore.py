"""Prepared cases on disk, made for reading patches: only the chunks that a patch touches are read and unpacked.

A case is three files: ``CASE.b2nd`` (condition channels, then the target, in the types that the plans chose),
``CASE_mask.b2nd`` (uint8, with a sample of body voxels in its metadata) and ``CASE.json``, which is written last: a
case without it is not finished.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdmunet import commands
from gdmunet.atomic import atomic_path, remove
from gdmunet.errors import CommandLine, GdmError
from gdmunet.foreign import checksum, file_checksum, reading
from gdmunet.geometry import Shape
from gdmunet.plans import Plans
from gdmunet.preprocessing.case_record import CASE_FORMAT, CaseOrigin, CaseRecord
from gdmunet.preprocessing.packed_arrays import (
    BODY_VOXELS,
    check_array,
    check_values,
    pack_case,
)
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.preprocessing.stored_array import LazyChannels, StoredArray
from gdmunet.provenance import cases_hash
from gdmunet.quantities import counted
from gdmunet.ranges import require
from gdmunet.serialization import format_json, load_json, to_json
from gdmunet.storage_spec import StorageSpec

if TYPE_CHECKING:
    import blosc2

# A memory map of a file in use cannot be replaced on Windows.
_OPEN_OPTIONS: dict[str, Any] = {} if os.name == "nt" else {"mmap_mode": "r"}


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on disk; the arrays are read when sliced.

    Attributes
    ----------
    condition, target
        (C, z, y, x) and (1, z, y, x), read as float32 in network units; target is None if the case has none.
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
        self.dataset = Path(preprocessed_dataset_folder).name
        self.plans, self.configuration = plans_name, configuration_name
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
        """Refuse damaged cases, and those that were prepared for other plans; gives those that do not say for which.

        The packed arrays have no checksums inside: a flipped bit would be another number. Here each file is read once.

        Raises
        ------
        GdmError
            Not prepared, damaged, or prepared with other settings.
        """
        records = {name: self._record(name) for name in identifiers}
        for name, record in records.items():
            for file, wanted in zip(self._files(name), record.checksums, strict=False):
                with self._readable(file, name):
                    found = file_checksum(file)
                    require(
                        found == wanted,
                        "the bytes of a prepared case have changed since they were written",
                        f"{found:08x}",
                        f"{wanted:08x}",
                    )
        return tuple(name for name, record in records.items() if not record.origin.recipe)

    def write(
        self,
        prepared: PreparedCase,
        window_size: Shape = (64, 64, 64),
        origin: CaseOrigin | None = None,
        storage: StorageSpec | None = None,
    ) -> tuple[int, ...]:
        """Write a case; an earlier one of that name stays whole if anything fails.

        Parameters
        ----------
        prepared
            The case.
        window_size
            Patch (z, y, x) that will be read; chunks and blocks follow it.
        origin
            Sources that it was made from.
        storage
            Types of the stored channels; None: float32.

        Returns the channels whose values do not fit `storage`, and so are float32; the target's number is the last.

        Raises
        ------
        GdmError
            The disk is full, or the folder cannot be written to.
        """
        name = prepared.properties.identifier
        packed = pack_case(prepared, window_size, storage)
        sums = checksum(packed.values), checksum(packed.mask)
        case = to_json(CaseRecord(prepared.properties, origin or CaseOrigin(), sums, packed.types))
        # Nothing is renamed before everything is written; the record, outermost, is renamed last.
        record_file = self.folder / f"{name}.json"
        values_file, mask_file = self._files(name)
        with (
            atomic_path(record_file) as record_path,
            atomic_path(mask_file) as mask_path,
            atomic_path(values_file) as values_path,
        ):
            values_path.write_bytes(packed.values)
            mask_path.write_bytes(packed.mask)
            record_path.write_bytes(f"{format_json(case)}\n".encode())
            # From here on the parts of two cases may lie side by side: without a record they are not a case.
            record_file.unlink(missing_ok=True)
        return packed.widened

    def open(self, identifier: str) -> StoredCase:
        """Open a finished case.

        Raises
        ------
        GdmError
            Not prepared, prepared for other plans, or a file is missing or damaged.
        """
        record, (values_file, mask_file) = self._record(identifier), self._files(identifier)
        properties, shape = record.properties, record.properties.prepared_shape
        values = self._open(values_file, identifier)
        with self._readable(values_file, identifier):
            stored_channels = check_values(values, record)
        mask = self._open(mask_file, identifier)
        with self._readable(mask_file, identifier):
            check_array(mask, np.uint8, [shape])
            body_voxels = np.frombuffer(mask.schunk.vlmeta[BODY_VOXELS], dtype=np.int32).reshape(-1, 3)
            inside = (body_voxels >= 0) & (body_voxels < np.asarray(shape))
            require(bool(inside.all()), "body voxels outside the case", body_voxels[:3].tolist(), f"below {shape}")
        channels = len(properties.condition_maps)
        stored = StoredArray(values, functools.partial(self._readable, values_file, identifier))
        return StoredCase(
            LazyChannels(stored, stored_channels, 0, channels),
            LazyChannels(stored, stored_channels, channels, channels + 1) if len(stored_channels) > channels else None,
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
            remove(path)

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
