"""Progress: a bar on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io

import pytest

from bridge.progress import progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _advance(stream: io.StringIO, total: int | None, quiet: bool = False) -> str:
    now = [0.0]
    with progress(total, "training", quiet, stream=stream, clock=lambda: now[0]) as bar:
        for step in range(30):
            now[0] += 1.0
            bar.advance(2, error=0.5 / (step + 1), epoch=1)
    assert bar.done == 60
    return stream.getvalue()


def test_plain_lines_come_every_ten_seconds_with_rate_and_time_left() -> None:
    lines = _advance(io.StringIO(), 120).splitlines()
    assert lines[0] == "training: 20/120 (17 %), 2.0/s, 0:50 left, error 0.05 epoch 1"
    assert [line.split()[1] for line in lines] == ["20/120", "40/120", "60/120", "60/120"]


def test_an_unknown_total_has_no_time_left() -> None:
    assert _advance(io.StringIO(), None).startswith("training: 20, 2.0/s, error 0.05")


def test_a_terminal_gets_a_bar() -> None:
    shown = _advance(Terminal(), 120)
    assert "training" in shown
    assert "60/120" in shown


def test_quiet_shows_nothing() -> None:
    assert _advance(io.StringIO(), 120, quiet=True) == ""
    assert _advance(Terminal(), 120, quiet=True) == ""


def test_progress_ends_with_an_exception_too() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), progress(3, "training", stream=stream) as bar:
        bar.advance(1 // (bar.done))
    assert stream.getvalue() == ""
