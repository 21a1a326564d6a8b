"""A full disk ends a run with 74 and one line; it crashes nothing and loses no acknowledged row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import StorageError
from tests.bridge.records import new_log, row

pytest.importorskip("resource", reason="the limit on file sizes is POSIX's")

from tests.bridge.filling import small_disk, take_room


@pytest.fixture
def disk(tmp_path: Path):
    """A small file system."""
    try:
        with small_disk(tmp_path) as place:
            yield place
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk: a tmpfs can be mounted by root only")


@pytest.mark.parametrize("kind", ["limit", "disk"])
@pytest.mark.parametrize("runs", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_a_full_disk_keeps_all_that_was_acknowledged(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, runs: int
) -> None:
    if kind == "disk":
        request.getfixturevalue("disk")
