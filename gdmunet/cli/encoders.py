"""``gdm_pretrain_encoder`` and ``gdm_audit_encoder``."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import INTERRUPTED, CommandParser, folders_from, natural_int, positive_int, run_command


def pretrain_parser() -> CommandParser:
    """The flags of ``gdm_pretrain_encoder``."""
    command = CommandParser(
        "gdm_pretrain_encoder",
        "Pretrain a frozen encoder on the target volumes of the training cases of a prepared data set. The run folder "
        "is then an encoder: -encoder mae:RUN_FOLDER. Run again after Ctrl-C, it goes on where it stood.",
        folders=("preprocessed", "results"),
    )
    _add_data(command, required=True)
    command.add_argument("--iterations", type=positive_int, default=5000, metavar="N", help="optimiser steps")
    command.add_argument(
        "--crop", type=positive_int, metavar="N", help="voxels a side, a multiple of 16; default: 48 in 3D, 96 in 2D"
    )
    command.add_argument(
        "--batch_size", type=positive_int, metavar="N", help="windows an iteration; default: 4 in 3D, 12 in 2D"
    )
    command.add_argument("--seed", type=natural_int, default=0, metavar="N", help="of weights and windows")
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FOLDER",
        help="run folder; default: encoders/PLANS_CONFIGURATION_fold_K in the data set's results folder",
    )
    command.add_argument("--overwrite", action="store_true", help="start over, although the folder holds a run")
    command.add_argument(
        "-device",
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="default: cuda where there is one, else mps, else cpu",
    )
    return command


def audit_parser() -> CommandParser:
    """The flags of ``gdm_audit_encoder``."""
    command = CommandParser(
        "gdm_audit_encoder",
        "Is a frozen encoder worth training against? Level by level: does a shifted, noisy crop find its own place, is "
        "blur punished more than noise of equal error, are channels dead, are input gradients bounded?",
        folders=("preprocessed", "results"),
    )
    command.add_argument(
        "-e",
        "--encoder",
        default="mini",
        metavar="NAME",
        help="a name of gdm_download_encoder --list, mae:RUN_FOLDER, nnunet:MODEL_FOLDER, file.py:factory",
    )
    command.add_argument(
        "--encoder_path", "--encoder-path", type=Path, metavar="FILE", help="its weights; default: the cache"
    )
    command.add_argument(
        "--trust_checkpoint",
        "--trust-checkpoint",
        action="store_true",
        help="read encoder weights from a pickle that may run code; only for files that you trust",
    )
    command.add_argument(
        "-i",
        "--input",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="volumes, or folders of them; default: those of -d",
    )
    command.add_argument("--modality", default="CT", help="of the volumes of -i: CT and CBCT are in HU")
    _add_data(command, required=False)
    command.add_argument("--volumes", type=positive_int, default=4, metavar="N", help="volumes at most")
    command.add_argument("--windows", type=positive_int, default=4, metavar="N", help="crops a volume")
    command.add_argument("--window", type=positive_int, default=64, metavar="N", help="voxels a side of a crop")
    command.add_argument("--seed", type=natural_int, default=0, metavar="N", help="of crops and noise")
    command.add_argument("--random", action="store_true", help="also audit the same network with random weights")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there; default: print them only")
    return command


@run_command
def pretrain_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_pretrain_encoder``."""
    arguments = pretrain_parser().parse_args(argv)
    from gdmunet.workflows.pretrain_encoder import PretrainingRequest, run_pretraining

    request = PretrainingRequest(
        dataset=arguments.dataset,
        dimensions=arguments.dimensions,
        configuration=arguments.configuration,
        fold=arguments.fold,
        plans_name=arguments.plans,
        iterations=arguments.iterations,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        out=arguments.out,
        overwrite=arguments.overwrite,
        device=arguments.device,
        show_progress=not arguments.no_pbar,
    )
    folder = run_pretraining(request, folders_from(arguments))
    if folder is None:
        print("stopped; the same command goes on")
        return INTERRUPTED
    print(f"encoder: mae:{folder}")
    return 0


@run_command
def audit_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_audit_encoder``."""
    arguments = audit_parser().parse_args(argv)
    from gdmunet.encoders.audit_report import audit_table, plain_numbers
    from gdmunet.paths import downloads_allowed
    from gdmunet.serialization import save_json
    from gdmunet.workflows.audit_encoder import AuditRequest, run_audit

    request = AuditRequest(
        encoder=arguments.encoder,
        files=tuple(arguments.input),
        dataset=arguments.dataset,
        configuration=arguments.configuration,
        fold=arguments.fold,
        plans_name=arguments.plans,
        modality=arguments.modality,
        dimensions=arguments.dimensions,
        encoder_file=arguments.encoder_path,
        allow_download=downloads_allowed(),
        trust_checkpoint=arguments.trust_checkpoint,
        volumes=arguments.volumes,
        windows=arguments.windows,
        window=arguments.window,
        seed=arguments.seed,
        random=arguments.random,
        show_progress=not arguments.no_pbar,
    )
    result = run_audit(request, folders_from(arguments))
    print(f"{result.audit.encoder} on {', '.join(result.audit.volumes)}\n")
    print(audit_table(result.audit, result.random))
    if arguments.json:
        found = {"audit": result.audit, "random": result.random}
        save_json({name: plain_numbers(audit) for name, audit in found.items() if audit}, arguments.json)
    return 0


def _add_data(command: CommandParser, *, required: bool) -> None:
    command.add_argument(
        "-d",
        "--dataset",
        required=required,
        metavar="ID",
        help="number or name of the prepared data set"
        + ("" if required else ": its validation targets; default: see -i"),
    )
    command.add_argument(
        "-c", "--configuration", metavar="NAME", help="configuration of the plans; default: 3d_fullres, or 2d in 2D"
    )
    command.add_argument("-f", "--fold", default="0", metavar="K", help="fold by number, or all")
    command.add_argument("-p", "--plans", default="gdmPlans", help="name of the plans")
    command.add_argument("--dimensions", type=int, choices=(2, 3), default=3, help="of the encoder")
