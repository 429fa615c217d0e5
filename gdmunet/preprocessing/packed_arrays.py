"""The arrays of a prepared case as bytes of .b2nd files: chunks for patches, body voxels, types of the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gdmunet.geometry import Shape
from gdmunet.preprocessing.case_record import CaseRecord
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.preprocessing.stored_channels import StoredChannel, encode
from gdmunet.ranges import require
from gdmunet.storage_spec import StorageSpec, StoredType

if TYPE_CHECKING:
    import blosc2

MAX_BODY_VOXELS = 10_000
BODY_VOXELS = "body_voxels"
# A chunk is what one read of the file unpacks at most; larger ones waste work, smaller ones compress worse.
_MAX_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class PackedCase:
    """The files of a case, the types of its channels, and the numbers of those that the plans want narrower."""

    values: bytes
    mask: bytes
    types: tuple[StoredType, ...]
    widened: tuple[int, ...]


def pack_case(prepared: PreparedCase, window_size: Shape, storage: StorageSpec | None) -> PackedCase:
    """Pack conditions, target and mask; `storage` None: float32."""
    values = [*prepared.condition, *([] if prepared.target is None else prepared.target)]
    types = () if storage is None else (*storage.conditions, storage.target)
    wanted = _channels(prepared.properties, len(values), types)
    channels = [channel.fitting(array) for channel, array in zip(wanted, values, strict=True)]
    body = sample_body(prepared.mask, prepared.properties.identifier)
    return PackedCase(
        _pack(encode(values, channels), window_size),
        _pack(prepared.mask.astype(np.uint8), window_size, body),
        tuple(channel.type for channel in channels),
        tuple(number for number, pair in enumerate(zip(wanted, channels, strict=True)) if pair[0] != pair[1]),
    )


def _channels(properties: CaseProperties, count: int, types: Sequence[StoredType]) -> list[StoredChannel]:
    maps = (*properties.condition_maps, properties.target_map)[:count]
    return [StoredChannel(types[i] if types else "float32", intensity) for i, intensity in enumerate(maps)]


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
        packed.schunk.vlmeta[BODY_VOXELS] = body_voxels.tobytes()
    content: bytes = packed.to_cframe()
    return content


def check_values(values: blosc2.NDArray, record: CaseRecord) -> list[StoredChannel]:
    """The channels of a stored array, which is the one that its record describes (GdmError)."""
    properties = record.properties
    shape, conditions = properties.prepared_shape, len(properties.condition_maps)
    if set(record.types) <= {"float32"}:
        check_array(values, np.float32, [(conditions + target, *shape) for target in (0, 1)])
        return _channels(properties, values.shape[0], ())
    count = len(record.types)
    require(count - conditions in (0, 1), "the record has another number of types", count, f"{conditions} or one more")
    channels = _channels(properties, count, record.types)
    check_array(values, np.int16, [(sum(channel.planes for channel in channels), *shape)])
    return channels


def check_array(array: blosc2.NDArray, dtype: type, shapes: Sequence[tuple[int, ...]]) -> None:
    """The stored array is the one that its record describes (GdmError)."""
    fits = array.dtype == dtype and tuple(array.shape) in shapes
    require(fits, "the file holds another array than the case's record says", f"{array.shape} {array.dtype}",
            f"{' or '.join(map(str, shapes))} {np.dtype(dtype)}")  # fmt: skip
