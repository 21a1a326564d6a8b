"""A full disk ends a run with 74 and one line, without a crash or a lost acknowledged row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the limit on file sizes is POSIX's")

from tests.bridge.filling import can_mount
from tests.in_numbers import in_numbers

small_disk = pytest.param(
    "disk", marks=pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
)


@pytest.mark.parametrize("kind", ["limit", small_disk])
@pytest.mark.parametrize("runs", in_numbers(2, 40, 200))
def test_a_full_disk_keeps_all_that_was_acknowledged(tmp_path: Path, kind: str, runs: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bridge.filling", str(tmp_path), str(runs), kind],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["refused"].values()) == runs
