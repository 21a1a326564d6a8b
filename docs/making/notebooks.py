"""Notebooks, executed, as pages: text, code and what it printed or drew."""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

SECONDS = 600
"""The most that one cell may take, on a busy machine."""


def executed(path: Path) -> tuple[str, dict[str, bytes]]:
    """Run a notebook from top to bottom in an empty folder.

    Returns:
        The page as Markdown, and its pictures by file name.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook: Any = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            startup_timeout=SECONDS,
            timeout=SECONDS,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            for output in cell.outputs:
                parts += _shown(output, path.stem, pictures)
    link = f"[Download this notebook]({path.name})"
    return "\n\n".join([*parts, "---", link]) + "\n", pictures


def _shown(output: Any, stem: str, pictures: dict[str, bytes]) -> list[str]:
    if output.output_type == "stream":
        return [_text(output.text)] if output.name == "stdout" else []
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}-{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode(data["image/png"])
        return [f"![What the cell above draws]({name})"]
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        table = re.sub(r' (border|class|style)="[^"]*"', "", table)  # the site has its own
        return [re.sub(r"\n\s*", "\n", table).strip()]
    return [_text(data["text/plain"])] if "text/plain" in data else []


def _text(output: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output).rstrip()
    return f"```text\n{plain}\n```"
