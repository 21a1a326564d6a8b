"""Schedules of tau, eta and the mixture weight over a run."""

from __future__ import annotations

from nlhf.algorithms.base import Schedule
from nlhf.errors import InputError

KINDS = ("constant", "linear", "geometric")


def schedule(kind: str, start: float, end: float, steps: int) -> Schedule:
    """The value at step t = 0 .. steps - 1, from `start` to `end`, and `end` after that.

    With u = t / (steps - 1): linear is start + u (end - start), geometric start (end / start)^u,
    constant is start.

    Raises:
        InputError: an unknown kind, or a geometric schedule over a value that is not positive.
    """
    if kind not in KINDS:
        raise InputError(f"schedule={kind!r} is unknown; use one of {', '.join(KINDS)}")
    if kind == "geometric" and not (start > 0 and end > 0):
        raise InputError(f"a geometric schedule from {start} to {end} needs positive values")

    def at(step: int) -> float:
        u = min(step / (steps - 1), 1.0) if steps > 1 else 1.0
        if kind == "linear":
            return start + u * (end - start)
        return start * (end / start) ** u if kind == "geometric" else start

    return at
