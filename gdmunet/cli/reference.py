"""The reference page of all commands, written from their parsers.

``python -m gdmunet.cli.reference > documentation/reference/commands.md`` writes it; a test holds it equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from gdmunet.cli import (
    convert_dicom,
    convert_synthrad,
    demo,
    download_encoder,
    encoders,
    evaluate,
    models,
    new_dataset,
    plan,
    predict,
    report,
    simulate_svct,
)
from gdmunet.cli.arguments import CommandParser, help_text
from gdmunet.cli.flags import parser_of
from gdmunet.workflows.requests.training import CompareRequest, TrainRequest

# Every command of pyproject.toml, in the order in which a user meets them.
PARSERS: dict[str, Callable[[], CommandParser]] = {
    "gdm_demo": demo.parser,
    "gdm_new_dataset": new_dataset.parser,
    "gdm_convert_dicom": convert_dicom.parser,
    "gdm_convert_synthrad2025": convert_synthrad.parser,
    "gdm_download_encoder": download_encoder.parser,
    "gdm_simulate_svct": simulate_svct.parser,
    "gdm_plan_and_preprocess": plan.plan_and_preprocess_parser,
    "gdm_extract_fingerprint": plan.extract_fingerprint_parser,
    "gdm_plan_experiment": plan.plan_experiment_parser,
    "gdm_preprocess": plan.preprocess_parser,
    "gdm_pretrain_encoder": encoders.pretrain_parser,
    "gdm_audit_encoder": encoders.audit_parser,
    "gdm_train": lambda: parser_of(TrainRequest),
    "gdm_predict": predict.parser,
    "gdm_evaluate": evaluate.parser,
    "gdm_compare": lambda: parser_of(CompareRequest),
    "gdm_report": report.parser,
    "gdm_view": report.view_parser,
    "gdm_find_best_configuration": models.find_best_configuration_parser,
    "gdm_ensemble": models.ensemble_parser,
    "gdm_export_model": models.export_model_parser,
    "gdm_import_model": models.import_model_parser,
}

_INTRODUCTION = """# Commands

This page is written from the commands themselves (`python -m gdmunet.cli.reference`); `COMMAND --help` says the same.

* Flags have nnU-Net's short spelling and a long one. Inside a flag `-` and `_` are the same: `--step_size`,
  `--step-size` and `-step_size` are one flag. An unknown flag is an error that names the nearest known one.
* A value never sticks to its flag: `-d 501` or `-d=501`, not `-d501`. Abbreviated flags are refused.
* Folders: the flag (`--raw`, `--preprocessed`, `--results`) wins over the variable (`GDM_RAW`, `GDM_PREPROCESSED`,
  `GDM_RESULTS`), which wins over `./gdm_raw`, `./gdm_preprocessed`, `./gdm_results`.
* Lengths are mm, sizes voxels, axes in the order z y x, memory GB of 1e9 bytes.
* Exit status: 0 done; 1 a problem that the message names; 2 a wrong command line; 130 stopped by Ctrl-C.
* Every command has `--help` and `--version`.
"""


def commands_page() -> str:
    """The page in Markdown."""
    return _INTRODUCTION + "".join(section(parser()) for parser in PARSERS.values())


def section(parser: CommandParser) -> str:
    """The part of the page about one command."""
    rows = [
        f"| {_flags(action)} | {_escape(help_text(action) % {'default': action.default})} |"
        for action in sorted(parser._actions, key=lambda action: action in parser.common._group_actions)
        if action.dest not in ("help", "version")
    ]
    return f"\n## {parser.prog}\n\n{parser.description}\n\n| flag | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def _flags(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{flag}`" for flag in action.option_strings) + (f" `{value}`" if value else "")


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    name = action.metavar or action.dest
    if action.choices is not None and action.metavar is None:
        name = "/".join(map(str, action.choices))
    elif action.metavar is None:
        name = name.upper()
    return {"+": f"{name} ...", "?": f"[{name}]"}.get(str(action.nargs), name)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(commands_page(), end="")
