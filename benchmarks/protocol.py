"""One folder of work holds the runs of one protocol: those of another would stand beside them unseen."""

import json
from collections.abc import Mapping
from pathlib import Path


def check_protocol(work: Path, protocol: Mapping[str, object]) -> None:
    """Note the protocol in a fresh WORK; refuse one whose runs were made with another, or with an unknown one."""
    file = work / "protocol.json"
    if file.exists():
        if (earlier := json.loads(file.read_text())) != protocol:
            raise SystemExit(f"{work} holds runs of {earlier}, this call asks for {protocol}: give another WORK")
        return
    if (work / "gdm_results").exists():
        raise SystemExit(f"{work} holds runs of an unknown protocol: give another WORK")
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(protocol, indent=1))
