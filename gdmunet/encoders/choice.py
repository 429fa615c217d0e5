"""The encoder is chosen once, when planning: one at hand, one to download, else the one that needs no weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gdmunet import commands
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.download import DownloadOptions
from gdmunet.encoders.loading import (
    build_encoder,
    family_folder,
    fetch_weights,
    missing_weights,
    weight_file,
    weights_hash,
)
from gdmunet.encoders.registry import BUILT_IN, FAMILIES, NamedEncoder, parse_spec, ranked_families
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderSpec
from gdmunet.progress import say

AUTO = "auto"
MOST_LOAD = 1.0
"""Largest load that `auto` takes: no step becomes twice as long or as large unasked."""


@dataclass(frozen=True)
class Load:
    """Operations and peak memory that an encoder adds to a training step, over those of the generator."""

    operations: float
    memory: float

    @property
    def heavy(self) -> bool:
        """Whether one of them is more than `auto` takes."""
        return max(self.operations, self.memory) > MOST_LOAD

    def describe(self) -> str:
        """What is too much."""
        parts = {"operations": self.operations, "memory": self.memory}
        much = [f"{share:.1f} times the generator's {name}" for name, share in parts.items() if share > MOST_LOAD]
        return " and ".join(much)


Weigh = Callable[[FrozenEncoder], Load]
"""The load of an encoder beside the generator."""


@dataclass(frozen=True)
class EncoderOptions:
    """Choice of an encoder, and the permitted sources of its weights.

    Attributes
    ----------
    cache
        Folder of downloaded weights (`Folders.encoders`).
    file
        Weights that the user gave (``--encoder-path``); needs a named encoder.
    allow_download
        Whether weights may be fetched (not with ``HF_HUB_OFFLINE``). `auto` fetches its first candidate only, says so,
        and goes on without it where that fails.
    allow_large
        Whether `auto` may take a large encoder: without a GPU it takes the built-in one, since others are far too slow.
    trust_checkpoint
        Whether weight files are read that can run code while they are read.
    download
        Address, progress and time limit of a download.
    """

    cache: Path
    file: Path | None = None
    allow_download: bool = False
    allow_large: bool = True
    trust_checkpoint: bool = False
    download: DownloadOptions = field(default_factory=DownloadOptions)

    def __post_init__(self) -> None:
        if self.cache.is_file():
            raise GdmError(
                "the folder of encoders is a file",
                file=self.cache,
                remedy="name a folder with GDM_ENCODERS",
            )


@dataclass(frozen=True)
class EncoderChoice:
    """Result of the choice.

    Attributes
    ----------
    spec, encoder
        Entry of plans.json, and the frozen module on the CPU; both None only if no encoder of that dimension exists.
    because
        The choice and its reason, in one line.
    load
        Operations and memory that it adds to a step; None: it was not weighed.
    """

    spec: EncoderSpec | None
    encoder: FrozenEncoder | None
    because: str
    load: Load | None = None


def choose_encoder(
    spec: str, units: VolumeUnits, dimensions: int, options: EncoderOptions, weigh: Weigh | None = None
) -> EncoderChoice:
    """Choose, fetch if allowed and needed, build once, and pin an encoder.

    Parameters
    ----------
    spec
        ``auto``, or a name of the table, or ``package.module:factory``.
    units
        Units of the volumes that the encoder will see.
    dimensions
        2 or 3.
    weigh
        Load of an encoder beside the generator, by which `auto` passes over those beyond `MOST_LOAD`; None:
        there is no generator.

    Raises
    ------
    GdmError
        A named encoder's weights cannot be had, are damaged, or do not fit.
    """
    search = _Search(units, dimensions, options, weigh)
    if spec != AUTO:
        return search.named(parse_spec(spec))
    if options.file is not None:
        raise GdmError(
            "--encoder-path needs the name of the encoder that the file belongs to",
            file=options.file,
            remedy="give it with -encoder NAME; {command} shows the names",
            command=commands.list_encoders(),
        )
    if not options.allow_large:
        return search.built_in("the larger ones are too slow without a GPU; -encoder NAME takes one anyway")
    return search.best()


@dataclass(frozen=True)
class _Search:
    units: VolumeUnits
    dimensions: int
    options: EncoderOptions
    weigh: Weigh | None

    def named(self, named: NamedEncoder) -> EncoderChoice:
        """The encoder that the user named."""
        options, family = self.options, named.family
        file = weight_file(named, options.cache, options.file)
        if file is None and family and family.source and self.dimensions in family.dimensions:
            if not options.allow_download:
                raise missing_weights(family, options.cache)
            file = fetch_weights(family, options.cache, options.download)
        return self._pin(named, file, f"encoder {named.spec}: as asked for")

    def best(self) -> EncoderChoice:
        """The first of the ranked encoders whose weights are at hand, else a download of the first, else built in.

        Those with too many operations or too much memory for the generator are passed over.
        """
        options, ranked = self.options, ranked_families(self.units.modality, self.dimensions)
        if not ranked:
            return self.built_in(f"the larger ones are not {self.dimensions}D")
        loads = {family.name: self.weigh(family.outlined(self.units)) for family in ranked} if self.weigh else {}
        heavy = {name: load for name, load in loads.items() if load.heavy}
        passed = "".join(f"; {name} has {load.describe()}" for name, load in heavy.items())
        ranked = tuple(family for family in ranked if family.name not in heavy)
        if not ranked:
            return self.built_in(f"every larger one has more operations or memory than the generator{passed}")
        for family in ranked:
            named = NamedEncoder(family, None)
            if (file := weight_file(named, options.cache, None)) is not None:
                because = f"encoder {family.name}: the best whose weights are at hand ({file}){passed}"
                return self._pin(named, file, because)
        best = ranked[0]
        size = best.source.megabytes if best.source else 0
        later = f"gdm_download_encoder {best.name} fetches {size} MB"
        if not options.allow_download:
            return self.built_in(f"no other weights are at hand, and downloads are off; {later}{passed}")
        say(
            f"encoder {best.name}: downloading {size} MB once to {family_folder(best, options.cache)} "
            f"(-encoder {BUILT_IN}, or HF_HUB_OFFLINE=1, avoids this)",
            sys.stderr,
        )
        try:
            file = fetch_weights(best, options.cache, options.download)
        except GdmError as error:
            return self.built_in(f"{error.problem}; with a network, {later}{passed}")
        return self._pin(NamedEncoder(best, None), file, f"encoder {best.name}: downloaded to {file}{passed}")

    def built_in(self, why: str) -> EncoderChoice:
        """The encoder inside the package, if it has the right number of dimensions."""
        family = FAMILIES[BUILT_IN]
        if self.dimensions not in family.dimensions:
            return EncoderChoice(None, None, f"no encoder: {why}, nor is the built-in one")
        return self._pin(NamedEncoder(family, None), None, f"encoder {family.name} (built in): {why}")

    def _pin(self, named: NamedEncoder, file: Path | None, because: str) -> EncoderChoice:
        """Build the encoder and describe it for the plans."""
        trusted = self.options.trust_checkpoint
        encoder = build_encoder(named, file, self.units, self.dimensions, trusted)
        spec = EncoderSpec(
            spec=named.spec,
            sha256=weights_hash(encoder, file),
            dimensions=encoder.dimensions,
            window=encoder.window,
            levels=encoder.levels,
            licence=named.family.licence if named.family else encoder.licence,
            file=str(file) if self.options.file is not None else None,
            trusted=trusted,
        )
        return EncoderChoice(spec, encoder, because, self.weigh(encoder) if self.weigh else None)
