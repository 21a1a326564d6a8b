"""The package's version, of which pyproject.toml is the one source."""

from __future__ import annotations

import tomllib
from pathlib import Path

NAME = "bioplaus"


def version() -> str:
    """The version of the code that runs: of the checkout it lies in, or as it was installed."""
    try:
        text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8")
        project = tomllib.loads(text)["project"]
        if project["name"] == NAME:
            return project["version"]
    except (OSError, KeyError, ValueError):
        pass
    from importlib import metadata  # costs a third of printing --help

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "unknown"
