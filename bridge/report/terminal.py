"""Curves in a terminal, for a log that is being written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.headline import Contest
from bridge.runlog.reader import Run
from bridge.runlog.results import declared
from bridge.runlog.series import Curve, curves, match, plain_names
from bridge.runlog.thin import read_thinned

_MOST_CHARTS = 6
_CHART_ROWS = 6
_LABEL = 10
_CLOCKS = ("epoch", "seconds", "context")
# The bit of each dot in a braille character, by column and row.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
# Reading may take at most this share of the time.
_LOAD = 0.2


@dataclass(frozen=True)
class View:
    """What a log shows at a given moment.

    Args:
        run: the run.
        curves: the selected ones, by name.
    """

    run: Run
    curves: dict[str, Curve]

    @property
    def step(self) -> int | None:
        """The newest step."""
        return max((int(c.steps[-1]) for c in self.curves.values() if len(c.steps)), default=None)

    @property
    def newest(self) -> dict[str, float]:
        """The newest value of each curve that has one."""
        return {name: float(c.values[-1]) for name, c in self.curves.items() if len(c.values)}


def watch(
    path: Path,
    metrics: Sequence[str] = (),
    interval: float = 1.0,
    contest: Contest | None = None,
    sleep: Callable[[float], Any] = time.sleep,
) -> Iterator[View]:
    """Give a log's newest state again and again, until no process writes it any more.

    Args:
        path: the log.
        metrics: names of metrics, see `series.match`; if empty, the first of each table.
        interval: minimum seconds between two reads.
        contest: of the tables that have its columns, only the column that ranks is chosen.
        sleep: the function that waits.

    Yields:
        The state, once immediately, then whenever there are new rows, and at the end; for long
            tables only the rows of their extremes, see `thin`.

    Raises:
        InputError: it is not a log, or it lacks such a metric.
    """
    rows = -1
    while True:
        began = time.monotonic()
        found = read_thinned([path], contest)
        (run,) = found.runs
        count = sum(found.rows.get(n, len(c["step"])) for n, c in run.tables.items())
        if count != rows or not run.alive:
            rows = count
            yield View(run, _chosen(run, metrics, contest))
        if not run.alive:
            return
        sleep(max(interval, (time.monotonic() - began) / _LOAD))


def screen(view: View, width: int, height: int, encoding: str = "utf-8") -> str:
    """Draw a log's state as text.

    Args:
        view: the state.
        width: width of the terminal in characters.
        height: its height in lines; as many charts are drawn as fit.
        encoding: of the terminal; without braille characters, stars are used.
    """
    run = view.run
    age = max(time.time() - run.heartbeat, 0.0)
    facts = [run.path.name, run.state, f"step {view.step if view.step is not None else '-'}"]
    facts.append(f"heard of {timedelta(seconds=round(age))} ago" if age >= 20 else "")
    lines = ["  ".join(filter(None, facts))[:width]]
    across = 2 if width >= 100 else 1
    room = max(width // across - _LABEL - 2, 10)
    fits = max((height - 2) // (_CHART_ROWS + 2), 1) * across
    named = list(view.curves.items())[: min(fits, _MOST_CHARTS)]
    blocks = [_block(name, curve, room, encoding) for name, curve in named]
    for start in range(0, len(blocks), across):
        lines.append("")
        lines += [
            "  ".join(part.ljust(_LABEL + room) for part in parts).rstrip()
            for parts in zip(*blocks[start : start + across], strict=True)
        ]
    return "\n".join(lines)


def chart(curve: Curve, columns: int, rows: int, encoding: str = "utf-8") -> list[str]:
    """Draw a curve into lines of text, each character two dots wide and four high.

    Args:
        curve: has at least one finite value; other values leave gaps.
        columns, rows: in characters.
        encoding: the one that the characters must exist in.
    """
    grid = np.zeros((4 * rows, 2 * columns), bool)
    steps, values = curve.steps.astype(float), curve.values
    finite = np.isfinite(values)
    low, high = float(values[finite].min()), float(values[finite].max())
    span = steps[-1] - steps[0]
    across = (steps - steps[0]) / (span or 1.0) * (2 * columns - 1)
    # A value's height, from the top; in the middle if all are equal.
    height = (high - values) / (high - low) if high > low else np.full(len(values), 0.5)
    place = np.where(finite, height, 0.0) * (4 * rows - 1)
    before: tuple[int, int] | None = None
    for x, y, there in zip(
        across.round().astype(int), place.round().astype(int), finite, strict=True
    ):
        if not there:
            before = None
            continue
        _join(grid, before or (int(x), int(y)), (int(x), int(y)))
        before = (int(x), int(y))
    return _letters(grid, encoding)


def show_live(views: Iterator[View]) -> None:
    """Redraw the terminal for each state; the last one stays."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    encoding = console.encoding
    with Live(console=console, auto_refresh=False, screen=False) as live:
        for view in views:
            text = screen(view, console.width, console.height, encoding)
            live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)


def line(view: View) -> str:
    """Give the newest values in one line."""
    values = "  ".join(f"{name.partition('/')[2]} {v:.4g}" for name, v in view.newest.items())
    return (
        f"{view.run.state}  step {view.step if view.step is not None else '-'}  {values}".rstrip()
    )


def _chosen(run: Run, metrics: Sequence[str], contest: Contest | None) -> dict[str, Curve]:
    found = curves(run)
    if metrics:
        return {full: found[full] for name in metrics for full in match(name, found, run.path)}
    plain = plain_names(found)
    whole = {name.partition("/")[0] for name in plain}
    ranking = _deciding(run, found, contest)
    # For a table whose rows have a kind, such as a phase, select every kind.
    plain += [name for name in found if name.partition("/")[0] not in whole | ranking.keys()]
    names = [name for name in plain if name.partition("/")[2].partition("[")[0] not in _CLOCKS]
    names += [name for each in ranking.values() for name in each]
    headline = declared(run.meta)
    ordered = sorted(_spread_out(names), key=lambda n: headline is None or n != headline.metric)
    return {name: found[name] for name in ordered}


def _deciding(
    run: Run, found: Mapping[str, Curve], contest: Contest | None
) -> dict[str, list[str]]:
    """For each table that ranks, name the curves by which it does."""
    names: dict[str, list[str]] = {}
    if contest is None:
        return names
    for table, columns in run.tables.items():
        if contest.takes(columns):
            part = contest.whole(columns[contest.part].tolist()) if contest.part in columns else ""
            name, of = f"{table}/{contest.by}[", f"{contest.part}={part}" if part else ""
            names[table] = [each for each in found if each.startswith(name) and of in each]
    return names


def _spread_out(names: Sequence[str]) -> list[str]:
    """Take the first name of each table, then the second of each, and so on."""
    tables: dict[str, list[str]] = {}
    for name in names:
        tables.setdefault(name.partition("/")[0], []).append(name)
    longest = max(map(len, tables.values()), default=0)
    return [each[i] for i in range(longest) for each in tables.values() if i < len(each)]


def _block(name: str, curve: Curve, room: int, encoding: str) -> list[str]:
    finite = curve.values[np.isfinite(curve.values)]
    if not len(finite):
        return [f"{name}: no values yet"[: _LABEL + room], *[""] * _CHART_ROWS]
    newest = curve.values[-1]
    title = f"{name}: {newest:.4g}"[: _LABEL + room]
    drawn = chart(curve, room, _CHART_ROWS, encoding)
    marks = ["" for _ in drawn]
    marks[0], marks[-1] = f"{finite.max():.3g}", f"{finite.min():.3g}"
    return [title, *(f"{m:>{_LABEL - 1}} {d}" for m, d in zip(marks, drawn, strict=True))]


def _join(grid: NDArray[np.bool_], start: tuple[int, int], end: tuple[int, int]) -> None:
    n = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for i in range(n + 1):
        x = start[0] + math.floor(i * (end[0] - start[0]) / n + 0.5)
        y = start[1] + math.floor(i * (end[1] - start[1]) / n + 0.5)
        grid[y, x] = True


def _letters(grid: NDArray[np.bool_], encoding: str) -> list[str]:
    braille = _can_say("⣿", encoding)
    lines = []
    for top in range(0, grid.shape[0], 4):
        letters = []
        for left in range(0, grid.shape[1], 2):
            cell = grid[top : top + 4, left : left + 2]
            bits = sum(_DOTS[x][y] for y, x in zip(*np.nonzero(cell), strict=True))
            full = chr(0x2800 + bits) if braille else "*"
            letters.append(full if bits else " ")
        lines.append("".join(letters).rstrip())
    return lines


def _can_say(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
