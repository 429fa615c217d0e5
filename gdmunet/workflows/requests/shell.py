"""The request of the command that teaches a shell the flags of all commands."""

from __future__ import annotations

from typing import Literal

from gdmunet.workflows.requests.declaration import Request, Synopsis, option, request

Shell = Literal["bash", "zsh", "fish", "tcsh", "powershell"]


@request
class CompletionRequest(Request):
    """Write the script by which a shell completes flags, choices and paths of all commands."""

    synopsis = Synopsis(
        "gdm_completion",
        "Write the script by which a shell completes the flags, choices and paths of all commands. For bash: "
        "gdm_completion bash > ~/.gdm_completion, and a line in ~/.bashrc: source ~/.gdm_completion",
    )
    shell: Shell = option(help="shell that reads the script")
