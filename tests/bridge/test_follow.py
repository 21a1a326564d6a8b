"""`runs show --follow`: what it draws, and when it ends."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bioplaus_cli.headlines import ESTIMATORS
from bridge import open_run
from bridge.report.terminal import chart, screen, watch
from bridge.runlog.series import Curve
from cli import main
from tests.bridge.records import Epoch, new_log, row, sealed_log


def call(*args: Any) -> Result:
    return CliRunner().invoke(main, ["runs", "show", *map(str, args), "--follow"])


def curve(values: list[float]) -> Curve:
    return Curve(np.arange(len(values)), np.array(values))


def dots(lines: list[str], columns: int) -> np.ndarray:
    """The grid of dots that braille letters show."""
    grid = np.zeros((4 * len(lines), 2 * columns), bool)
    places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    for r, line in enumerate(lines):
        for c, letter in enumerate(line):
            bits = ord(letter) - 0x2800 if letter != " " else 0
            for bit, (y, x) in enumerate(places):
                grid[4 * r + y, 2 * c + x] = bool(bits >> bit & 1)
    return grid


def test_a_straight_line_is_the_diagonal() -> None:
    n = 24
    grid = dots(chart(curve([float(i) for i in range(n)]), n // 2, n // 4), n // 2)
    assert np.array_equal(grid, np.eye(n, dtype=bool)[::-1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_every_value_has_its_dot(values: list[float]) -> None:
    grid = dots(chart(curve(values), 40, 6), 40)
    low, high = min(values), max(values)
    for i, value in enumerate(values):
        x = round(i / max(len(values) - 1, 1) * 79)
        y = (high - value) / (high - low) * 23 if high > low else 11.5
        assert grid[max(int(y) - 1, 0) : int(y) + 2, x].any()


def test_gaps_stay_gaps_and_terminals_without_braille_get_stars() -> None:
    lines = chart(curve([0.0, math.nan, math.nan, math.nan, 1.0]), 10, 4, "ascii")
    assert set("".join(lines)) <= {"*", " "}
    assert sum(line.count("*") for line in lines) == 2


def test_a_growing_log_is_watched_to_its_end(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run.h5")
    steps = iter(range(100))

    def work(_: float) -> None:
        step = next(steps)
        if step < 4:
            log.log("metrics", row(step))
        elif step == 6:
            log.close()

    views = list(watch(log.path, sleep=work))
    assert [view.step for view in views] == [None, 0, 1, 2, 3, 3]
    assert [view.run.state for view in views[-2:]] == ["running", "finished"]
    assert views[3].newest["metrics/loss[phase=free]"] == 2 / 3
    assert "run.h5  finished  step 3" in screen(views[-1], 80, 24)


def test_the_screen_fits_the_terminal(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        for step in range(30):
            log.log("epochs", Epoch(step, step, 100.0 / (step + 1)))
    (view,) = watch(log.path)
    for width, height in ((40, 12), (80, 24), (200, 50)):
        lines = screen(view, width, height).splitlines()
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert any("error: 3.333" in line for line in lines)


def test_following_a_log_that_has_ended_says_its_last_line(tmp_path: Path) -> None:
    result = call(sealed_log(tmp_path / "a.h5"), "--metric", "error")
    assert (result.exit_code, result.stdout) == (0, "finished  step 20  error 2.5\n")
    result = call(tmp_path / "a.h5", "--json", "--metric", "epochs/error")
    expected = {"state": "finished", "step": 20, "values": {"epochs/error": 2.5}}
    assert json.loads(result.stdout) == expected


def test_following_the_dead_ends(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5", command="x") as log:
        log.log("epochs", Epoch(1, 1, 0.5))
        shutil.copy(log.path, tmp_path / "died.h5")
    assert call(tmp_path / "died.h5").stdout.startswith("died  step 1")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "a.h5")
    for arguments in ((log, "--metric", "eror"), (tmp_path / "no.h5",), (log, "--interval", "0")):
        result = call(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


def test_of_a_table_that_ranks_the_deciding_column_is_drawn(tmp_path: Path) -> None:
    kind = make_dataclass(
        "Check", [("step", int), ("estimator", Literal["a", "b"]),
                  ("parameter", Literal["all", "bias"]), ("angle_degrees", float),
                  ("norm", float)]
    )  # fmt: skip
    with open_run(tmp_path / "run.h5", tables={"gradients": kind}, config={}, seed=0) as log:
        for part in ("all", "bias"):
            log.log("gradients", kind(0, "a", part, 2.0, 1.0))
    (view,) = watch(log.path, contest=ESTIMATORS)
    assert list(view.curves) == ["gradients/angle_degrees[estimator=a,parameter=all]"]
    (view,) = watch(log.path)
    assert len(view.curves) == 4
