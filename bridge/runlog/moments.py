"""Estimate when the rows of a log were written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from bridge.runlog.stream import LogFile

Knots = list[tuple[int, float]]
"""Steps, and their moments in seconds since 1970."""


def moment_of(log: LogFile) -> Callable[[int], float]:
    """Make a function that gives the moment of each step of a log, in seconds since 1970.

    Rows have no time stamp. Known are the moments of the start, of each event with a step, of the
    end, and of each row with a column `seconds`, which counts from the start without the time
    between a stop and a resumption. Between two known moments all steps are assumed to take equally
    long.
    """
    start = datetime.fromisoformat(log.meta["start_time"]).timestamp()
    noted = [
        (each["step"], float(each["time"]), each["kind"])
        for each in log.events
        if isinstance(each.get("step"), int) and each["step"] >= 0
    ]
    begun = [(0, start), *((step, time) for step, time, kind in noted if kind == "resumed")]
    knots = [(0, start), *((step, time) for step, time, _ in noted), *_timed(log, begun)]
    ends = [log.slice(name, n - 1, n)["step"][0] for name in log.schemas if (n := log.rows(name))]
    last = int(max(ends, default=0))
    if last > max(step for step, _ in knots):
        knots.append((last, max(start, log.heartbeat)))
    knots.sort()
    steps, times = (np.array(each, np.float64) for each in zip(*knots, strict=True))

    def moment(step: int) -> float:
        k = int(np.searchsorted(steps, step, "left"))  # before a stop, not after it
        if k == len(steps) or k == 0 or steps[k] == step:
            return float(times[min(k, len(steps) - 1)])
        share = (step - steps[k - 1]) / (steps[k] - steps[k - 1])
        return float(times[k - 1] + share * (times[k] - times[k - 1]))

    return moment


def _timed(log: LogFile, begun: Sequence[tuple[int, float]]) -> Knots:
    """Give the moments of rows that count the seconds since the start.

    Args:
        log: the log.
        begun: step and moment of the start and of each resumption.
    """
    found: Knots = []
    for name, schema in log.schemas.items():
        columns = {column.name: column.kind for column in schema.columns}
        if columns.get("step") == "int" and columns.get("seconds") == "float":
            blocks = list(log.blocks(name))
            if blocks:
                steps, seconds = (
                    np.concatenate([block[each] for block in blocks])
                    for each in ("step", "seconds")
                )
                found += _placed(steps, seconds, begun, log.heartbeat)
    return found


def _placed(
    steps: NDArray[np.int64],
    seconds: NDArray[np.float64],
    begun: Sequence[tuple[int, float]],
    end: float,
) -> Knots:
    """Assign moments to rows; none if `seconds` is not the time since the start."""
    counted = np.concatenate([[0.0], seconds])
    if not (np.isfinite(counted).all() and (np.diff(counted) >= 0).all()):
        return []
    if begun[0][1] + counted[-1] > math.ceil(end):
        return []
    known = np.concatenate([[0], steps]).astype(np.float64)
    offsets = [time - float(np.interp(step, known, counted)) for step, time in begun]
    firsts = [step for step, _ in begun]
    parts = np.searchsorted(firsts, steps, "left") - 1  # the step it resumed at counts before
    return [
        (int(step), float(offsets[max(part, 0)] + each))
        for step, each, part in zip(steps, seconds, parts, strict=True)
    ]
