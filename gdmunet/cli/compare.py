"""``gdm_compare``: train, predict and score several trainers on the same folds, and put them side by side."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, run_command
from gdmunet.cli.training_flags import add_machine_flags, add_settings_flags, overrides_of


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_compare",
        "Compare trainers on the held-out cases of the same folds: trains what is missing (an interrupted run goes "
        "on where it stopped), predicts, scores, and writes one comparison as JSON, CSV, Markdown, LaTeX and an HTML "
        "page. A trainer that fails becomes a row that says why.",
        folders=("raw", "preprocessed", "results"),
    )
    command.add_argument("dataset", help="number or name of the data set, such as 501")
    command.add_argument("configuration", help="configuration of the plans: 3d_fullres, 3d_lowres or 2d")
    command.add_argument(
        "-tr",
        "--trainers",
        nargs="+",
        required=True,
        metavar="TRAINER",
        help="trainers, as for gdm_train; differences are taken to the first",
    )
    command.add_argument("-p", "--plans", default="gdmPlans", help="name of the plans")
    command.add_argument(
        "-f", "--folds", nargs="+", default=["0"], metavar="FOLD", help="numbered folds to compare on (default: 0)"
    )
    add_settings_flags(command)
    command.add_argument(
        "--judge",
        metavar="ENCODER",
        help="encoder of the distances between distributions, one that trained no generator; default: mini, or the "
        "random tiny where the plans' own encoder is mini",
    )
    command.add_argument(
        "--judge_path", type=Path, metavar="FILE", help="weights of that encoder; default: package or cache"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="default: comparisons/<plans>__<configuration> in the data set's results folder",
    )
    add_machine_flags(command)
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_compare``."""
    arguments = parser().parse_args(argv)
    from gdmunet.evaluation.comparison.files import format_markdown
    from gdmunet.paths import downloads_allowed
    from gdmunet.workflows.compare import ComparisonRequest, run_comparison

    written = run_comparison(
        ComparisonRequest(
            dataset=arguments.dataset,
            configuration=arguments.configuration,
            trainers=tuple(arguments.trainers),
            folds=tuple(arguments.folds),
            plans_name=arguments.plans,
            overrides=overrides_of(arguments),
            judge=arguments.judge,
            judge_file=arguments.judge_path,
            allow_download=downloads_allowed(),
            output=arguments.output,
            device=arguments.device,
            loader_workers=arguments.processes,
            show_progress=not arguments.no_pbar,
        ),
        folders_from(arguments),
    )
    print(format_markdown(written.comparison))
    print(f"distances judged by the encoder {written.judge}")
    print("wrote " + ", ".join(str(file) for file in written.files))
    return 0
