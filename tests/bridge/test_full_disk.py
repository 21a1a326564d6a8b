"""A full disk ends a run with 74 and one line; it crashes nothing and loses no acknowledged row."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.runlog import read_run, recover
from tests.bridge.records import row

pytest.importorskip("resource", reason="the limit on file sizes is POSIX's")


def fill(path: Path, limit: int, weights: int = 10) -> tuple[int, int]:
    """Write until the limit; give the last acknowledged row and weights."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bridge.filling", str(path), str(limit), str(weights)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (74, "")
    last, saved, message = done.stdout.split(maxsplit=2)
    assert message.startswith(f"{path}: cannot be ")
    assert message.count("\n") == 1
    return int(last), int(saved)


def check(path: Path, last: int, saved: int) -> None:
    """Every acknowledged row is there, before and after recovering."""
    for _ in range(2):
        run = read_run(path)
        steps = run.table()["step"].tolist()
        assert steps == list(range(len(steps)))
        assert len(steps) > last
        assert run.table()["loss"].tolist() == [row(step).loss for step in steps]
        assert not run.dropped
        assert run.state == "failed"
        if saved >= 0:
            assert run.weights()[0] >= saved
        recover(path)
    assert read_run(path).sealed


@pytest.mark.parametrize("n", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_a_full_disk_keeps_every_acknowledged_row(tmp_path: Path, n: int) -> None:
    random_ = random.Random(n)
    for i in range(n):
        path = tmp_path / f"{i}.h5"
        last, saved = fill(path, random_.randrange(250_000, 500_000))
        assert last > 100
        check(path, last, saved)
        path.unlink()
        assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_first_weights_or_even_for_the_log(tmp_path: Path) -> None:
    last, saved = fill(tmp_path / "weights.h5", 1_200_000, weights=200_000)
    assert (last, saved) == (0, -1)
    check(tmp_path / "weights.h5", last, saved)
    (tmp_path / "weights.h5").unlink()
    for limit in (1, 5000, 90_000):
        assert fill(tmp_path / "none.h5", limit) == (-1, -1)
    assert list(tmp_path.iterdir()) == []
