"""Learning-rate schedules: the factor between 0 and 1 over a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from bridge.errors import InputError

Schedule = Callable[[int], float]

ScheduleName = Literal["constant", "cosine", "linear", "step", "inverse"]
SCHEDULES = get_args(ScheduleName)


def learning_rate_schedule(
    name: str,
    total_steps: int | None = None,
    *,
    warmup_steps: int = 0,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> Schedule:
    """Make the function from the step (0 is the first) to the factor of the learning rate.

    With w warm-up steps, T total steps and u = (t - w) / (T - w) in [0, 1]:

        t < w:    (t + 1) / (w + 1)
        constant: 1
        cosine:   (1 + cos(pi u)) / 2
        linear:   1 - u
        step:     factor ** (number of milestones <= u)
        inverse:  1 / (1 + 99 u), so that noise is averaged away (Robbins and Monro 1951)

    Cosine and linear would reach 0 at t = T, one step past the last.

    Args:
        name: one of SCHEDULES.
        total_steps: T >= 1; only `constant` can do without it.
        warmup_steps: w, from 0 to T.
        milestones: where `step` multiplies by `factor`, as fractions of the run.
        factor: the factor of `step`, in (0, 1].

    Returns:
        The factor as a function of the step; steps past the end keep the last value.

    Raises:
        InputError: a value outside its range.
    """
    if name not in SCHEDULES:
        raise InputError(f"schedule={name!r} is unknown; use one of {', '.join(SCHEDULES)}")
    if name != "constant" and (total_steps is None or total_steps < 1):
        raise InputError(f"schedule={name!r} needs total_steps >= 1, not {total_steps}")
    if warmup_steps < 0 or (total_steps is not None and warmup_steps > total_steps):
        raise InputError(f"warmup_steps={warmup_steps} must lie between 0 and the run's steps")
    if not 0 < factor <= 1:
        raise InputError(f"factor={factor} must lie in (0, 1]")
    length = max((total_steps or 1) - warmup_steps, 1)

    def at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        share = min((step - warmup_steps) / length, 1.0)
        if name == "cosine":
            return (1 + math.cos(math.pi * share)) / 2
        if name == "linear":
            return 1 - share
        if name == "inverse":
            return 1 / (1 + 99 * share)
        if name == "step":
            return factor ** sum(share >= milestone for milestone in milestones)
        return 1.0

    return at


def course(name: str, total_steps: int, warmup_steps: int) -> dict[str, Schedule]:
    """Give an optimizer's schedule for `Config.courses`; empty if it does not depend on the end."""
    if name == "constant":
        return {}
    made = learning_rate_schedule(name, total_steps, warmup_steps=warmup_steps)
    return {f"optimizer.schedule={name}": made}
