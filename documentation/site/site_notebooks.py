"""A notebook as Markdown: its texts, its code, and the outputs that are stored in it."""

from __future__ import annotations

import json
from typing import Any


def as_markdown(text: str) -> str:
    """The cells of a notebook's JSON, one after the other."""
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in _parts(cell)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *(part for output in cell["outputs"] for part in _output(output))]


def _output(output: dict[str, Any]) -> list[str]:
    if output["output_type"] == "stream":
        return [f"```text\n{''.join(output['text']).rstrip()}\n```"]
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return [f'<img alt="picture of the cell above" src="data:image/png;base64,{picture}">']
    if "text/plain" in data:
        return [f"```text\n{''.join(data['text/plain'])}\n```"]
    return []
