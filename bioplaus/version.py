"""The package's version; pyproject.toml is its only source."""

from __future__ import annotations

import tomllib
from pathlib import Path

NAME = "bioplaus"


def version() -> str:
    """The version of the running code: of its checkout, or else of the installed package."""
    try:
        text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8")
        project = tomllib.loads(text)["project"]
        if project["name"] == NAME:
            return project["version"]
    except (OSError, KeyError, ValueError):
        pass
    from importlib import metadata  # importing it takes a third of the time of --help

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "unknown"
