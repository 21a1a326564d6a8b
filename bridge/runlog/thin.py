"""Thin out long runs: keep the rows that show a curve's extremes; compare runs over all rows.

For a table with more than LIMIT rows only some are held in memory: in each of STRETCHES stretches,
the rows where a curve has its smallest, its largest or its first non-finite value; the rows at the
same steps in the other runs; and both ends. Counts and differences between runs are over all rows,
which are read in windows of equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.headline import Contest
from bridge.runlog.reader import Run
from bridge.runlog.series import Curve, at, common_steps, series_of
from bridge.runlog.stream import Columns, LogFile, open_log

LIMIT = 50_000
STRETCHES = 400


@dataclass
class Exact:
    """Values of a metric over all steps that all runs have.

    Args:
        steps: the number of these steps.
        last: the last of them.
        difference: the largest difference between any two runs.
        at_step: the step of that difference.
    """

    steps: int = 0
    last: int = -1
    difference: float = -math.inf
    at_step: int = -1


@dataclass
class Thinned:
    """Runs whose long tables are held in part.

    Args:
        runs: in the order given.
        exact: for metrics of the long tables, by name.
        rows: of the long tables, the number of rows of the longest run.
    """

    runs: tuple[Run, ...]
    exact: dict[str, Exact] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def read_thinned(paths: Sequence[Path | str], contest: Contest | None = None) -> Thinned:
    """Read logs, with only part of their long tables; those of the contest are read whole.

    Raises:
        InputError: a log cannot be read.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(open_log(path)) for path in paths]
        tables = dict.fromkeys(name for log in logs for name in log.schemas)
        found = Thinned(())
        kept: list[dict[str, Columns]] = [{} for _ in logs]
        for table in tables:
            having = [i for i, log in enumerate(logs) if table in log.schemas]
            rows = max(logs[i].rows(table) for i in having)
            columns = {c.name for i in having for c in logs[i].schemas[table].columns}
            if rows <= LIMIT or (contest and contest.takes(columns)):
                for i in having:
                    kept[i][table] = logs[i].whole(table)
                continue
            of_table = [logs[i] for i in having]
            steps = _telling_steps(of_table, table, rows, found.exact, len(logs))
            found.rows[table] = rows
            for i in having:
                kept[i][table] = _at_steps(logs[i], table, steps)
        found.runs = tuple(log.run(each) for log, each in zip(logs, kept, strict=True))
        return found


def _telling_steps(
    logs: Sequence[LogFile], table: str, rows: int, exact: dict[str, Exact], log_count: int
) -> NDArray[np.int64]:
    """Find the steps to keep, and compare all rows on the way."""
    keep: set[int] = set()
    ends: dict[tuple[int, str], int] = {}
    width = math.ceil(rows / STRETCHES)
    for parts in _together(logs, table):
        found: list[dict[str, Curve]] = []
        for i, part in enumerate(parts):
            curves = {each.name: each.curve for each in series_of({table: part})} if part else {}
            for name, curve in curves.items():
                keep.update(_extremes(curve, width))
                if (i, name) not in ends:
                    keep.add(int(curve.steps[0]))
                ends[i, name] = int(curve.steps[-1])
            found.append(curves)
        if len(logs) == log_count > 1:
            _compare(found, exact)
    for name, each in exact.items():
        if name.startswith(f"{table}/") and each.steps:
            keep |= {each.last, each.at_step}
    keep.update(ends.values())
    return np.array(sorted(keep), np.int64)


def _extremes(curve: Curve, width: int) -> Iterator[int]:
    finite = np.isfinite(curve.values)
    for start in range(0, len(curve.steps), width):
        stretch = slice(start, start + width)
        steps, values, good = curve.steps[stretch], curve.values[stretch], finite[stretch]
        if good.any():
            yield int(steps[np.argmin(np.where(good, values, np.inf))])
            yield int(steps[np.argmax(np.where(good, values, -np.inf))])
        if not good.all():
            yield int(steps[np.argmin(good)])


def _together(logs: Sequence[LogFile], table: str) -> Iterator[list[Columns]]:
    """Give the rows of all logs in windows that end at the same step."""
    windows = [log.windows(table) for log in logs]
    held: list[Columns] = [next(each, {}) for each in windows]
    while any(held):
        end = min(int(each["step"][-1]) for each in held if each)
        parts: list[Columns] = []
        for i, each in enumerate(held):
            n = int(np.searchsorted(each["step"], end, "right")) if each else 0
            if each and int(each["step"][-1]) == end:
                n = len(each["step"])
            parts.append({name: values[:n] for name, values in each.items()} if n else {})
            held[i] = {name: values[n:] for name, values in each.items()} if each else {}
            if not held[i] or not len(held[i]["step"]):
                held[i] = next(windows[i], {})
        yield parts


def _compare(found: Sequence[Mapping[str, Curve]], exact: dict[str, Exact]) -> None:
    for name in found[0]:
        if not all(name in each for each in found):
            continue
        curves = [each[name] for each in found]
        steps = common_steps(curves)
        if not len(steps):
            continue
        difference, step = largest_difference(np.stack([at(c, steps) for c in curves]), steps)
        known = exact.setdefault(name, Exact())
        known.steps += len(steps)
        known.last = int(steps[-1])
        if difference > known.difference:
            known.difference, known.at_step = difference, step


def largest_difference(values: NDArray[np.float64], steps: NDArray[np.int64]) -> tuple[float, int]:
    """Give the largest difference between any two runs, and its step; values are [runs, steps].

    Two NaNs do not differ; NaN and a number differ by infinity.
    """
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):
        spread = values.max(axis=0) - values.min(axis=0)
    # Infinities of the same sign do not differ, nor do NaNs.
    same = missing.all(axis=0) | (values == values[0]).all(axis=0)
    spread = np.where(same, 0.0, np.where(np.isnan(spread), math.inf, spread))
    worst = int(np.argmax(spread))
    return float(spread[worst]), int(steps[worst])


def _at_steps(log: LogFile, table: str, steps: NDArray[np.int64]) -> Columns:
    parts = []
    for block in log.blocks(table):
        chosen = np.isin(block["step"], steps)
        parts.append({name: values[chosen] for name, values in block.items()})
    if not parts:
        return log.whole(table)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
