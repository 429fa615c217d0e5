"""``gdm_train``: train one fold of one configuration."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, positive_int, run_command
from gdmunet.cli.training_flags import add_machine_flags, add_settings_flags, overrides_of


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_train",
        "Train one fold of one configuration, then validate it on whole volumes. Settings that differ from the "
        "trainer's own become part of the results folder's name.",
        folders=("raw", "preprocessed", "results"),
    )
    command.add_argument("dataset", help="number or name of the data set, such as 501")
    command.add_argument("configuration", help="configuration of the plans: 3d_fullres, 3d_lowres or 2d")
    command.add_argument(
        "fold", nargs="?", default="0", help="number of the fold, or all: train on every case (default: %(default)s)"
    )
    command.add_argument(
        "-tr",
        "--trainer",
        default="GDMTrainer",
        help="trainer by name, or a class of your own as file.py:Class or package.module:Class",
    )
    command.add_argument("-p", "--plans", default="gdmPlans", help="name of the plans")
    add_settings_flags(command)
    ways = command.add_mutually_exclusive_group()
    ways.add_argument("--c", "--continue", dest="c", action="store_true", help="continue from the latest checkpoint")
    ways.add_argument("--overwrite", action="store_true", help="start over, although this fold was trained before")
    ways.add_argument("--val", action="store_true", help="only validate: the final checkpoint on whole volumes")
    ways.add_argument("--val_best", action="store_true", help="only validate: the best checkpoint on whole volumes")
    command.add_argument(
        "-pretrained_weights",
        "--pretrained_weights",
        type=Path,
        metavar="FILE",
        help="checkpoint (.safetensors) of the same network to start from; default: fresh weights",
    )
    command.add_argument("-num_gpus", "--num_gpus", type=positive_int, default=1, metavar="N", help="GPUs to train on")
    add_machine_flags(command)
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_train``."""
    arguments = parser().parse_args(argv)
    from gdmunet.workflows.train import TrainingRequest, run_training

    request = TrainingRequest(
        dataset=arguments.dataset,
        configuration=arguments.configuration,
        fold=arguments.fold,
        trainer=arguments.trainer,
        plans_name=arguments.plans,
        overrides=overrides_of(arguments),
        continue_training=arguments.c,
        overwrite=arguments.overwrite,
        validate="best" if arguments.val_best else "final" if arguments.val else None,
        pretrained_weights=arguments.pretrained_weights,
        device=arguments.device,
        num_gpus=arguments.num_gpus,
        loader_workers=arguments.processes,
        show_progress=not arguments.no_pbar,
    )
    print(f"model: {run_training(request, folders_from(arguments))}")
    return 0
