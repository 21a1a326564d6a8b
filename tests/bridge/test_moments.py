"""When steps were done, according to a log's time stamps, across stops."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import open_run
from bridge.runlog.export import export_run
from bridge.runlog.moments import _placed, moment_of
from bridge.runlog.stream import open_log


@dataclass(frozen=True)
class Row:
    step: int
    loss: float


@dataclass(frozen=True)
class Epoch:
    step: int
    seconds: float


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time at which events are noted."""
    now = [0.0]
    monkeypatch.setattr("bridge.runlog.writer.time.time", lambda: now[0])
    return now


def made(path: Path, clock: list[float], seconds: list[float], stops: bool) -> float:
    """Write twenty steps, ten an epoch, with an hour between stop and resumption after step 15."""
    with open_run(path, tables={"metrics": Row, "epochs": Epoch}, config={}, seed=0) as log:
        with open_log(path) as read:
            start = datetime.fromisoformat(read.meta["start_time"]).timestamp()
        for step in range(1, 21):
            log.log("metrics", Row(step, 1 / step))
            if step % 10 == 0:
                log.log("epochs", Epoch(step, seconds[step // 10 - 1]))
            if step == 15 and stops:
                clock[0] = start + 150
                log.event("stopped", step=15, signal="SIGTERM")
                clock[0] = start + 3750
                log.event("resumed", step=15)
        clock[0] = start + 4000
    return start


def test_seconds_place_steps_and_a_stop_parts_them(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "run.h5"
    start = made(path, clock, [100.0, 200.0], stops=True)
    with open_log(path) as log:
        moment = moment_of(log)
        found = [moment(step) - start for step in (0, 5, 10, 12, 15, 16, 20)]
    assert found == pytest.approx([0, 50, 100, 120, 150, 3760, 3800], abs=1e-3)


@pytest.mark.parametrize("seconds", [[9.0, 3.0], [float("nan"), 1.0], [1e9, 2e9]])
def test_a_column_that_is_no_time_since_the_start_is_left_out(
    tmp_path: Path, clock: list[float], seconds: list[float]
) -> None:
    path = tmp_path / "run.h5"
    start = made(path, clock, seconds, stops=False)
    with open_log(path) as log:
        moment, end = moment_of(log), log.heartbeat
    assert moment(20) == pytest.approx(end)
    assert moment(10) == pytest.approx((start + end) / 2)


def test_tensorboard_gets_them(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "run.h5"
    start = made(path, clock, [100.0, 200.0], stops=True)
    (file,) = export_run(path, "tensorboard", tmp_path / "out", ["metrics"])
    data, times = file.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        times.append(struct.unpack_from("<d", data, 13)[0] - start)
        data = data[16 + length :]
    wanted = [0, *(10 * k for k in range(1, 16)), *(3750 + 10 * k for k in range(1, 6))]
    assert times == pytest.approx(wanted, abs=1e-3)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_without_a_stop_a_row_is_its_seconds_after_the_start(given_: list[float]) -> None:
    seconds = np.sort(np.array(given_))
    placed = _placed(np.arange(1, len(seconds) + 1), seconds, [(0, 5.0)], 1e7)
    assert placed == [(k + 1, 5.0 + each) for k, each in enumerate(seconds.tolist())]
