"""``gdm_predict``: predict a folder of cases with a trained model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.cli.arguments import (
    CommandParser,
    folders_from,
    natural_int,
    positive_int,
    run_command,
    share,
)
from gdmunet.errors import GdmError

if TYPE_CHECKING:
    from gdmunet.inference.predictor import Predictor

_NO_MASKS = (
    "note: the model was trained with given body masks; without --mask the body is derived from the condition, "
    "and outside it is air"
)
_SCANS_ONLY = "give --consistency together with --sinogram or --simulate"


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_predict",
        "Predict every case of a folder. With one trained model in the results folder -i and -o are enough; with "
        "several, choose one by -d, -c, -tr, -p or by its folder -m.",
        folders=("results",),
    )
    command.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of conditions: CASE_0000.ext, ...; or of a DICOM series; or of a sub-folder of DICOM a case",
    )
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the predictions: CASE.ext"
    )
    _add_model(command)
    _add_dicom(command)
    _add_scans(command)
    command.add_argument(
        "--mask", type=Path, metavar="DIR", help="folder of body masks CASE.ext; default: derived from the conditions"
    )
    command.add_argument(
        "-step_size",
        "--step_size",
        type=share,
        default=0.5,
        metavar="SHARE",
        help="step between windows as a share of the window, above 0 up to 1; smaller: more overlap, slower",
    )
    command.add_argument("--tta", action="store_true", help="average over mirrored inputs (8 times the work in 3D)")
    command.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write the voxelwise standard deviation over folds, mirrored inputs and samples",
    )
    command.add_argument(
        "--steps",
        type=positive_int,
        metavar="N",
        help="steps of a model that is drawn from in several; default: as many as its trainer chose",
    )
    command.add_argument(
        "--samples",
        type=positive_int,
        default=1,
        metavar="K",
        help="draws of a model with noise: writes their mean, and from 2 on their standard deviation as --uncertainty",
    )
    command.add_argument("--seed", type=natural_int, default=0, metavar="N", help="seed of the draws' noise")
    command.add_argument("--float", action="store_true", help="write float32 also where integers would do (CT)")
    command.add_argument(
        "--predict_empty", action="store_true", help="run the network in windows without body too (default: air there)"
    )
    command.add_argument(
        "--continue_prediction", action="store_true", help="leave out cases whose prediction is there already"
    )
    command.add_argument(
        "-npp",
        "--reading_processes",
        type=natural_int,
        default=1,
        metavar="N",
        help="cases that are read and prepared ahead while one is computed; 0 needs the least memory",
    )
    command.add_argument(
        "-nps",
        "--saving_processes",
        type=natural_int,
        default=1,
        metavar="N",
        help="cases that are written behind while one is computed; 0 needs the least memory",
    )
    command.add_argument(
        "-num_parts", "--num_parts", type=positive_int, default=1, metavar="N", help="cut the cases into N parts"
    )
    command.add_argument(
        "-part_id", "--part_id", type=natural_int, default=0, metavar="K", help="predict part K, from 0 to N - 1"
    )
    command.add_argument(
        "-device",
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="default: cuda where there is one, else mps, else cpu",
    )
    return command


def _add_model(command: CommandParser) -> None:
    any_model = "default: any, if only one model fits"
    command.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="DIR",
        help="folder of the model, the one that holds fold_0; default: found in the results folder",
    )
    command.add_argument("-d", "--dataset", help=f"number or name of the data set it was trained on; {any_model}")
    command.add_argument("-c", "--configuration", help=f"configuration; {any_model}")
    command.add_argument("-tr", "--trainer", help=f"trainer as in the name of the results folder; {any_model}")
    command.add_argument("-p", "--plans", help=f"name of the plans; {any_model}")
    command.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds to average, or all for the model trained on all cases; default: every fold that is there",
    )
    command.add_argument(
        "-chk", "--checkpoint", choices=("best", "final", "latest"), default="best", help="which weights"
    )


def _add_dicom(command: CommandParser) -> None:
    command.add_argument(
        "--dicom-out",
        type=Path,
        metavar="DIR",
        help="with DICOM input: also write each predicted CT as a DICOM series into DIR/CASE; default: no",
    )
    command.add_argument(
        "--series",
        nargs="+",
        default=[],
        metavar="SERIES",
        help="with DICOM input: number or UID of the series, one a channel; default: the only one that is a volume",
    )
    command.add_argument(
        "--fix-geometry",
        action="store_true",
        help="with DICOM input: resample series with uneven, missing, doubled or tilted slices (default: refuse them)",
    )


def _add_scans(command: CommandParser) -> None:
    kinds = command.add_mutually_exclusive_group()
    kinds.add_argument(
        "--sinogram",
        action="store_true",
        help="-i is a folder of sinograms CASE.npz; their reconstructions are written to conditions/ and predicted",
    )
    kinds.add_argument(
        "--simulate",
        action="store_true",
        help="-i is a folder of whole CTs CASE.ext, which are scanned as the model's training cases were",
    )
    command.add_argument(
        "--consistency",
        type=natural_int,
        default=0,
        metavar="N",
        help="with --sinogram or --simulate: N steps that bring the prediction nearer to the measured projections",
    )


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_predict``."""
    arguments = parser().parse_args(argv)
    from gdmunet.device import find_device
    from gdmunet.inference.cases.dicom import open_dicom
    from gdmunet.inference.folder import predict_folder
    from gdmunet.inference.predictor import Predictor
    from gdmunet.inference.trained_models import describe_model, resolve_model

    model_folder = arguments.model
    if model_folder is None:
        chosen = resolve_model(
            folders_from(arguments).results,
            arguments.dataset,
            arguments.configuration,
            arguments.trainer,
            arguments.plans,
            folds=arguments.folds,
            checkpoint=arguments.checkpoint,
        )
        model_folder = chosen.path
        print(f"model: {model_folder}\n  chosen by {describe_model(chosen)}")
    predictor = Predictor.from_folder(
        model_folder,
        arguments.folds,
        arguments.checkpoint,
        device=find_device(arguments.device),
        step_size=arguments.step_size,
        tta=arguments.tta,
        skip_empty=not arguments.predict_empty,
        steps=arguments.steps,
        samples=arguments.samples,
        seed=arguments.seed,
    )
    if predictor.descriptor.mask and arguments.mask is None:
        print(_NO_MASKS)
    if arguments.sinogram or arguments.simulate:
        return _predict_scans(arguments, predictor)
    if arguments.consistency:
        raise GdmError("without projections there is nothing to be consistent with", remedy=_SCANS_ONLY)
    dicom = open_dicom(arguments.input, predictor, arguments.series, arguments.fix_geometry, arguments.dicom_out)
    done = predict_folder(
        arguments.input,
        arguments.output,
        predictor,
        mask_folder=arguments.mask,
        dicom=dicom,
        continue_prediction=arguments.continue_prediction,
        num_parts=arguments.num_parts,
        part_id=arguments.part_id,
        preprocess_workers=arguments.reading_processes,
        export_workers=arguments.saving_processes,
        as_float=arguments.float,
        uncertainty=arguments.uncertainty or arguments.samples > 1,
        show_progress=not arguments.no_pbar,
    )
    for note in dicom.notes if dicom else ():
        print(note)
    there = f", {len(done.skipped)} were there already" if done.skipped else ""
    print(f"predicted {len(done.predicted)} cases into {arguments.output}{there}")
    return 0


def _predict_scans(arguments: Namespace, predictor: Predictor) -> int:
    """Prepare conditions from scans, predict them, compare the projections."""
    from gdmunet.inference.cases.scans import check_predictions, differing_settings, prepare_scans
    from gdmunet.inference.folder import predict_cases

    if arguments.dicom_out or arguments.series or arguments.fix_geometry:
        raise GdmError("sinograms and simulated scans are no DICOM input", remedy="leave the DICOM flags out")
    show = not arguments.no_pbar
    scanned = prepare_scans(
        arguments.input,
        "sinogram" if arguments.sinogram else "simulate",
        arguments.output,
        predictor,
        mask_folder=arguments.mask,
        num_parts=arguments.num_parts,
        part_id=arguments.part_id,
        show_progress=show,
    )
    for line in differing_settings(scanned, predictor):
        print(line)
    done = predict_cases(
        [one.case for one in scanned],
        arguments.output,
        predictor,
        mask_folder=arguments.mask,
        continue_prediction=arguments.continue_prediction,
        preprocess_workers=arguments.reading_processes,
        export_workers=arguments.saving_processes,
        as_float=arguments.float,
        uncertainty=arguments.uncertainty or arguments.samples > 1,
        show_progress=show,
    )
    report = check_predictions(
        scanned,
        arguments.output,
        predictor,
        steps=arguments.consistency,
        predicted=list(done.predicted),
        as_float=arguments.float,
        show_progress=show,
    )
    print(report.table())
    there = f", {len(done.skipped)} were there already" if done.skipped else ""
    print(f"predicted {len(done.predicted)} cases into {arguments.output}{there}")
    return 0
