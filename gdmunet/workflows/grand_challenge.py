"""The entry point of an algorithm on grand-challenge.org: files at given places in, files at given places out.

The interface of SynthRAD2025, as its published algorithms have it::

    /input/images/mri/NAME.mha        the MR (task 1), or images/cbct the cone-beam CT (task 2)
    /input/images/body/NAME.mha       the mask in which the challenge scores
    /input/region.json                "Head and Neck", "Abdomen" or "Thorax"; need not be there
    /output/images/synthetic-ct/NAME.mha
    /output/results.json              which input made which output
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gdmunet.atomic import make_folder, write_text
from gdmunet.device import find_device
from gdmunet.errors import GdmError
from gdmunet.inference.export import write_prediction
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.trained_models import resolve_model
from gdmunet.progress import say
from gdmunet.volume_formats.files import find_volumes

IMAGES = ("mri", "cbct")
MASKS = "body"
OUTPUT = Path("images") / "synthetic-ct"


def answer(inputs: Path, outputs: Path, results: Path) -> list[Path]:
    """Predict every image that the challenge handed over with the one model in a results folder; gives the files.

    Raises
    ------
    GdmError
        An image or its mask is missing, or cannot be predicted; it is named.
    """
    images = _images(inputs)
    masks = _masks(inputs, images)
    model = resolve_model(results)
    say(f"model {model.path.name}, {len(images)} image(s)")
    predictor = Predictor.from_folder(model.path, device=find_device(None))
    make_folder(outputs / OUTPUT)
    made, report = [], []
    for name, image in images.items():
        # Named as the image is; whatever format came in, the challenge reads MetaImage.
        file = outputs / OUTPUT / f"{name}.mha"
        write_prediction(file, predictor.predict(image, mask=masks[name], identifier=name))
        say(f"wrote {file}")
        made.append(file)
        report.append(_result(file, image, masks[name]))
    write_text(outputs / "results.json", json.dumps(report, indent=2) + "\n")
    return made


def _images(inputs: Path) -> dict[str, Path]:
    found = {kind: find_volumes(inputs / "images" / kind) for kind in IMAGES if (inputs / "images" / kind).is_dir()}
    volumes = [files for files in found.values() if files]
    if len(volumes) != 1:
        raise GdmError(
            "the input must hold the images of one task",
            file=inputs / "images",
            found=", ".join(f"{len(files)} in {kind}" for kind, files in found.items()) or "neither folder",
            expected=f"volumes in one of {' and '.join(IMAGES)}",
            remedy="mount the folder of the challenge's input as /input",
        )
    return volumes[0]


def _masks(inputs: Path, images: dict[str, Path]) -> dict[str, Path]:
    """The mask of each image: of the same name, or the only one of an only image."""
    folder = inputs / "images" / MASKS
    masks = find_volumes(folder) if folder.is_dir() else {}
    if len(images) == len(masks) == 1:
        return dict(zip(images, masks.values(), strict=True))
    missing = sorted(images.keys() - masks.keys())
    if missing:
        raise GdmError(
            "an image has no mask",
            case=missing[0],
            file=folder,
            found=", ".join(sorted(masks)[:5]) or "no masks",
            expected="a mask of the image's name",
            remedy="mount the folder of the challenge's input as /input",
        )
    return masks


def _result(file: Path, image: Path, mask: Path) -> dict[str, Any]:
    inputs = [{"type": "metaio_image", "filename": str(path)} for path in (image, mask)]
    return {
        "outputs": [{"type": "metaio_image", "filename": str(file)}],
        "inputs": inputs,
        "error_messages": [],
    }


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the container; the three folders may be given in place of the challenge's."""
    given = sys.argv[1:] if arguments is None else arguments
    defaults = ("/input", "/output", "/opt/algorithm/results")
    if len(given) not in (0, len(defaults)):
        say("usage: python -m gdmunet.workflows.grand_challenge [INPUT OUTPUT RESULTS]", sys.stderr)
        return 2
    try:
        answer(*(Path(folder) for folder in given or defaults))
    except GdmError as error:
        say(str(error), sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
