"""The versions of plans.json, and the way from each to the next."""

from __future__ import annotations

from typing import Any

from gdmunet.formats import FileFormat


def upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 tells the first built-in encoder from the one with a level at stride 1, which has its name."""
    configurations = {name: dict(configuration) for name, configuration in content["configurations"].items()}
    for configuration in configurations.values():
        if (encoder := configuration.get("encoder")) and encoder["spec"] == "mini":
            configuration["encoder"] = {**encoder, "spec": "mini-1"}
    return {**content, "configurations": configurations}


def upgrade_2_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knows the ranges of the training cases; earlier plans hold none, and prediction says so."""
    return {**content, "ranges": None}


def upgrade_3_to_4(content: dict[str, Any]) -> dict[str, Any]:
    """Version 4 may hold sizes of the drift; with earlier plans trainers keep the constants that they had."""
    configurations = {name: {**one, "drift": None} for name, one in content["configurations"].items()}
    return {**content, "configurations": configurations}


def upgrade_4_to_5(content: dict[str, Any]) -> dict[str, Any]:
    """Version 5 may hold the length of a training; with earlier plans it is the trainer's own."""
    configurations = {name: {**one, "iterations": None} for name, one in content["configurations"].items()}
    return {**content, "configurations": configurations}


def upgrade_5_to_6(content: dict[str, Any]) -> dict[str, Any]:
    """Version 6 may hold the types of stored channels; with earlier plans all are float32, as their cases are."""
    configurations = {name: {**one, "storage": None} for name, one in content["configurations"].items()}
    return {**content, "configurations": configurations}


PLANS_FORMAT = FileFormat("plans", (upgrade_1_to_2, upgrade_2_to_3, upgrade_3_to_4, upgrade_4_to_5, upgrade_5_to_6))
