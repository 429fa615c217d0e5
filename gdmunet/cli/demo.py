"""``gdm_demo``: the whole pipeline in a few minutes on two processor cores."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, positive_int, run_command

_TASKS = ("svct", "mr2ct")


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_demo",
        "Make a small data set, plan, preprocess, train, predict and evaluate: the commands are printed as they run. "
        "Ends with a table, one picture per test case and a file of the numbers.",
    )
    command.add_argument(
        "--task",
        choices=_TASKS,
        default="svct",
        help="svct: few-view CT to full-view CT of real volumes; mr2ct: MR to CT of generated head phantoms",
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="new or empty folder for everything; default: gdm_demo_out/TASK"
    )
    command.add_argument("--epochs", type=positive_int, metavar="N", help="default: chosen for a few minutes")
    command.add_argument("--overwrite", action="store_true", help="remove an earlier demonstration in DIR first")
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_demo``."""
    arguments = parser().parse_args(argv)
    from gdmunet.cli.demo_run import DEMO_SUMMARY_FILE, TASKS, run_demo

    out = arguments.out or Path("gdm_demo_out") / arguments.task
    summary = run_demo(
        TASKS[arguments.task],
        out,
        epochs=arguments.epochs,
        overwrite=arguments.overwrite,
        show_progress=not arguments.no_pbar,
    )
    print(f"\n{summary.table()}\n")
    print(f"{summary.seconds:.0f} s, at most {summary.peak_memory_mb:.0f} MB of memory")
    print("pictures: " + " ".join(summary.pictures))
    print(f"numbers:  {out / DEMO_SUMMARY_FILE}")
    return 0
