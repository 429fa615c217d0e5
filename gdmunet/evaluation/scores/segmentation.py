"""Label maps of references and predictions by a segmentation program, made once and kept while the volumes stay."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gdmunet.atomic import make_folder, scratch_folder
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_labels, read_volume, write_volume
from gdmunet.plain_text import one_line
from gdmunet.progress import say, track
from gdmunet.ranges import require
from gdmunet.serialization import load_json, save_json

IN, OUT = "{in}", "{out}"
TOTALSEGMENTATOR = "totalsegmentator"
RECORD = "segmentation.json"
_ENDING = ".nii.gz"
# Lines of a failed program that its error repeats, and letters of each.
_LAST_LINES, _LINE = 8, 200


@dataclass(frozen=True)
class Segmenter:
    """A program that makes a label map of a volume, both NIfTI files.

    Attributes
    ----------
    words
        Words of its command line, with ``{in}`` and ``{out}`` in the places of the two files.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        text = " ".join(self.words)
        places = [place for place in (IN, OUT) if place not in text]
        require(
            bool(self.words) and not places,
            "the segmentation command does not say where its files go",
            text,
            f'{TOTALSEGMENTATOR}, {TOTALSEGMENTATOR}:fast, or a command such as "segment {IN} {OUT}"',
        )

    @classmethod
    def of(cls, text: str) -> Segmenter:
        """The segmenter that ``--segment`` names.

        Raises
        ------
        GdmError
            A command without places for its files, or with a quotation that does not end.
        """
        if text.partition(":")[0] == TOTALSEGMENTATOR and text.partition(":")[2] in ("", "fast"):
            fast = ("--fast",) if text.endswith(":fast") else ()
            # The form that the challenge scores: one file with all labels.
            return cls(("TotalSegmentator", "-i", IN, "-o", OUT, "--ml", *fast))
        try:
            return cls(tuple(shlex.split(text)))
        except ValueError as error:
            raise GdmError(
                "the segmentation command cannot be read",
                found=f"{one_line(text, _LINE)} ({error})",
                expected="words as a shell reads them, with {in} and {out} for the files",
                remedy="close the quotation",
            ) from error

    def __call__(self, source: Path, destination: Path, case: str) -> None:
        """Run the program on two files.

        Raises
        ------
        GdmError
            It is not installed, ends with an error (its last lines are repeated), or writes nothing.
        """
        words = [word.replace(IN, str(source)).replace(OUT, str(destination)) for word in self.words]
        try:
            done = subprocess.run(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
            )
        except OSError as error:
            raise GdmError(
                f"the segmentation program {words[0]} cannot be started",
                case=case,
                found=str(error),
                remedy="install it where the command runs (TotalSegmentator: pip install gdmunet[segmentation])",
            ) from error
        said = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        last = "\n  ".join(one_line(line, _LINE) for line in said[-_LAST_LINES:]) or "it said nothing"
        if done.returncode != 0 or not destination.is_file():
            ended = f"ended with status {done.returncode}" if done.returncode else "wrote no label map"
            raise GdmError(
                f"the segmentation program {words[0]} {ended}",
                case=case,
                found=last,
                expected=f"a label map at {OUT}",
                remedy="run the program by itself on this case",
            )


@dataclass(frozen=True)
class SegmentationSpec:
    """What the label maps in a folder were made from.

    Attributes
    ----------
    words
        Command line of the segmenter.
    sources
        Identifier to the hash of the volume that was segmented, its voxels and its grid.
    """

    words: tuple[str, ...]
    sources: dict[str, str] = field(default_factory=dict)


def segment_folder(segmenter: Segmenter, volumes: Mapping[str, Path], folder: Path, show_progress: bool = True) -> int:
    """Make the label map of every volume that has none as ``folder/CASE.nii.gz``, and say how many were made.

    A label map is made anew if the voxels or the grid of its volume have changed, or the segmenter.

    Raises
    ------
    GdmError
        The program fails, or its label map does not lie on the grid of its volume; finished maps stay.
    """
    make_folder(folder)
    record, made = _known(folder, segmenter), 0
    sources = dict(record.sources)
    for case, path in track(f"segmenting for {folder.name}", sorted(volumes.items()), show_progress):
        volume = read_volume(path, case, constant=True)  # a prediction that failed is scored as well
        digest, destination = _digest(volume.array, volume.geometry), folder / f"{case}{_ENDING}"
        if sources.get(case) == digest and destination.is_file():
            continue
        with scratch_folder(destination) as scratch:
            source, result = scratch / f"in{_ENDING}", scratch / f"out{_ENDING}"
            write_volume(source, volume.array, volume.geometry)
            segmenter(source, result, case)
            labels = read_labels(result, case).array
        if labels.shape != volume.array.shape:
            raise GdmError(
                "the label map does not lie on the grid of its volume",
                case=case,
                found=labels.shape,
                expected=volume.array.shape,
                remedy="take a segmentation program that keeps the grid",
            )
        write_volume(destination, labels.astype(_least_type(int(labels.max()))), volume.geometry)
        sources[case] = digest
        made += 1
        save_json(SegmentationSpec(segmenter.words, sources), folder / RECORD)
    return made


def _known(folder: Path, segmenter: Segmenter) -> SegmentationSpec:
    """The record of maps by the same segmenter; of another one, or where there is none, an empty one."""
    record = SegmentationSpec(())
    if (folder / RECORD).is_file():
        try:
            record = load_json(SegmentationSpec, folder / RECORD)
        except GdmError as error:  # a damaged record costs time, and no result
            say(f"the label maps in {folder} are made anew: {error.problem}")
    return record if record.words == segmenter.words else SegmentationSpec(segmenter.words)


def _digest(array: np.ndarray, geometry: Geometry) -> str:
    content = hashlib.sha256(repr(geometry).encode())
    content.update(str(array.dtype).encode())
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _least_type(most: int) -> type[np.unsignedinteger] | type[np.signedinteger]:
    return np.uint8 if most < 256 else np.uint16 if most < 65536 else np.int32
