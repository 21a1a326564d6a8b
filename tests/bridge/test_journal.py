"""Rows in the journal are readable at once; other programs soon see them in the datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.runlog import list_runs, read_run
from tests.bridge.records import new_log, row

PLAIN = """
import sys, h5py
with h5py.File(sys.argv[1], "r", libver="latest", swmr=True) as file:
    n = len(file["metrics/step"])
    print(file["metrics/step"][:].tolist(), file["metrics/loss"][:n].tolist())
"""


def test_other_programs_see_the_rows_of_a_log_that_is_written(tmp_path: Path) -> None:
    """The first rows at once, and all rows once they have been forced to the disk."""

    def seen(path: Path) -> str:
        command = [sys.executable, "-c", PLAIN, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with new_log(tmp_path / "run.h5") as log:
        log.log("metrics", row(0))
        assert seen(log.path) == "[0] [0.0]"
        for step in range(1, 600):
            log.log("metrics", row(step))
        log.sync()
        expected = [list(range(600)), [step / 3 for step in range(600)]]
        assert seen(log.path) == " ".join(map(str, expected))


def test_a_row_is_read_at_once_whatever_other_programs_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.runlog.writer.SHOW_SECONDS", 1e9)
    with new_log(tmp_path / "run.h5") as log:
        for step in range(100):
            log.log("metrics", row(step))
        assert len(read_run(log.path).table()["step"]) == 100


def test_rows_fill_many_segments_of_the_journal(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        for step in range(6000):
            log.log("metrics", row(step))
        log.event("long", text="x" * 100_000)
        growing = read_run(log.path)
        assert growing.table()["loss"].tolist() == [step / 3 for step in range(6000)]
        assert growing.events[0]["text"] == "x" * 100_000
        assert growing.dropped == {}
        (found,) = list_runs([log.path])
        assert (found["rows"], found["step"], found["state"]) == (6000, 5999, "running")
    assert read_run(log.path).table()["step"].tolist() == list(range(6000))
