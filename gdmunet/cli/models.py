"""``gdm_find_best_configuration``, ``gdm_ensemble``, ``gdm_export_model``, ``gdm_import_model``."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, positive_int, run_command

_ANY = "default: any, if only one model fits"


def find_best_configuration_parser() -> CommandParser:
    """The flags of ``gdm_find_best_configuration``."""
    command = CommandParser(
        "gdm_find_best_configuration",
        "Compare the trained models of a data set, and pairs of them averaged, by the validation of their folds; "
        "print the commands that predict with the best.",
        folders=("raw", "results"),
    )
    command.add_argument("dataset", help="number or name of the data set, such as 501")
    command.add_argument("-c", "--configuration", nargs="+", help="only these configurations; default: all")
    command.add_argument("-tr", "--trainer", nargs="+", help="only these trainers; default: all")
    command.add_argument("-p", "--plans", nargs="+", help="only these plans; default: all")
    command.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="only these folds; default: all validated")
    command.add_argument("--disable_ensembling", action="store_true", help="do not try pairs of models")
    command.add_argument("-np", "--processes", type=positive_int, default=1, metavar="N", help="worker processes")
    return command


def ensemble_parser() -> CommandParser:
    """The flags of ``gdm_ensemble``."""
    command = CommandParser("gdm_ensemble", "Average the predictions of several folders, case by case.")
    command.add_argument(
        "-i", "--input", nargs="+", type=Path, required=True, metavar="DIR", help="two or more folders of predictions"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the averages")
    command.add_argument("--float", action="store_true", help="write float32 also where integers would do (CT)")
    return command


def export_model_parser() -> CommandParser:
    """The flags of ``gdm_export_model``."""
    command = CommandParser(
        "gdm_export_model",
        "Pack a trained model into one zip file: plans, weights and settings, no code.",
        folders=("results",),
        progress=False,
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the zip file to write")
    command.add_argument(
        "-m", "--model", type=Path, metavar="DIR", help="folder of the model; default: found in the results folder"
    )
    command.add_argument("-d", "--dataset", help=f"number or name of the data set it was trained on; {_ANY}")
    command.add_argument("-c", "--configuration", help=f"configuration; {_ANY}")
    command.add_argument("-tr", "--trainer", help=f"trainer as in the name of the results folder; {_ANY}")
    command.add_argument("-p", "--plans", help=f"name of the plans; {_ANY}")
    command.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to pack; default: all that have the checkpoint"
    )
    command.add_argument(
        "-chk", "--checkpoint", choices=("best", "final", "latest"), default="best", help="which weights"
    )
    return command


def import_model_parser() -> CommandParser:
    """The flags of ``gdm_import_model``."""
    command = CommandParser(
        "gdm_import_model",
        "Unpack a model that gdm_export_model packed into the results folder.",
        folders=("results",),
        progress=False,
    )
    command.add_argument("file", type=Path, help="the zip file")
    command.add_argument("--overwrite", action="store_true", help="replace a model of that name with all its folds")
    return command


@run_command
def find_best_configuration_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_find_best_configuration``."""
    arguments = find_best_configuration_parser().parse_args(argv)
    from gdmunet.evaluation.scores.configurations import CandidateOptions, find_best_configuration

    folders = folders_from(arguments)
    best = find_best_configuration(
        folders.results,
        folders.raw,
        arguments.dataset,
        CandidateOptions(
            trainers=arguments.trainer,
            plans=arguments.plans,
            configurations=arguments.configuration,
            folds=arguments.folds,
            ensembles=not arguments.disable_ensembling,
            processes=arguments.processes,
            show_progress=not arguments.no_pbar,
        ),
    )
    print(f"{best.table()}\n\n{best.instructions}")
    return 0


@run_command
def ensemble_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_ensemble``."""
    arguments = ensemble_parser().parse_args(argv)
    from gdmunet.inference.ensemble import ensemble_folders

    written = ensemble_folders(
        arguments.input, arguments.output, as_float=arguments.float, show_progress=not arguments.no_pbar
    )
    print(f"wrote {len(written)} averages into {arguments.output}")
    return 0


@run_command
def export_model_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_export_model``."""
    arguments = export_model_parser().parse_args(argv)
    from gdmunet.inference.archive import export_model
    from gdmunet.inference.trained_models import resolve_model

    folder = (
        arguments.model
        or resolve_model(
            folders_from(arguments).results,
            arguments.dataset,
            arguments.configuration,
            arguments.trainer,
            arguments.plans,
            folds=arguments.folds,
            checkpoint=arguments.checkpoint,
        ).path
    )
    print(f"model: {folder}")
    print(f"wrote {export_model(folder, arguments.output, arguments.folds, arguments.checkpoint)}")
    return 0


@run_command
def import_model_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_import_model``."""
    arguments = import_model_parser().parse_args(argv)
    from gdmunet.inference.archive import import_model

    print(f"model: {import_model(arguments.file, folders_from(arguments).results, arguments.overwrite)}")
    return 0
