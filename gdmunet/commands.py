"""The commands that remedies name, spelled in one place; a test runs every one of them."""

from __future__ import annotations

from pathlib import Path

from gdmunet.errors import CommandLine


def extract_fingerprint(dataset: str) -> CommandLine:
    """Measure the training cases of a data set (number or name)."""
    return CommandLine("gdm_extract_fingerprint", "-d", dataset)


def plan_experiment(dataset: str, *flags: str) -> CommandLine:
    """Plan a data set whose fingerprint is there."""
    return CommandLine("gdm_plan_experiment", "-d", dataset, *flags)


def plan_and_preprocess(dataset: str, *flags: str) -> CommandLine:
    """Everything between raw data and training."""
    return CommandLine("gdm_plan_and_preprocess", "-d", dataset, *flags)


def preprocess(dataset: str, configuration: str, plans: str, *flags: str) -> CommandLine:
    """Prepare the cases of one configuration."""
    return CommandLine("gdm_preprocess", "-d", dataset, "-c", configuration, "-p", plans, *flags)


def train(dataset: str, configuration: str, *flags: str) -> CommandLine:
    """Train a model."""
    return CommandLine("gdm_train", dataset, configuration, *flags)


def download_encoder(name: str) -> CommandLine:
    """Fetch the weights of an encoder."""
    return CommandLine("gdm_download_encoder", name)


def list_encoders() -> CommandLine:
    """Show the encoders by name."""
    return CommandLine("gdm_download_encoder", "--list")


def export_model(folder: Path) -> CommandLine:
    """Pack a model into one file beside where the command runs."""
    return CommandLine("gdm_export_model", "-m", folder, "-o", "model.zip")


def trust(file: Path) -> CommandLine:
    """Allow the present content of a file to run."""
    return CommandLine("gdm_trust", file)
