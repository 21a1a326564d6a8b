"""Helpers for the tests of the second simulator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bioplaus.costs import get_cost
from bioplaus.engines import Course
from bioplaus.engines.package import load_brian2
from bioplaus.errors import InputError
from bioplaus.nudging import Layered, Nudge
from bioplaus.solvers import Euler
from tests.fields import Problem


def require_brian2() -> None:
    """Skip a test, or a module's tests, if Brian2 cannot be imported."""
    try:
        load_brian2()
    except InputError as error:
        pytest.skip(f"could not import 'brian2': {error}", allow_module_level=True)


def dynamics(p: Problem, cost: str, beta: float) -> tuple[Layered, Layered]:
    """The free field and the nudged one."""
    drive, strength = p.field.drive(p.x), torch.full((len(p.x), 1), beta, dtype=p.x.dtype)
    return Layered(p.field, drive), Layered(p.field, drive, Nudge(get_cost(cost), p.y, strength))


def euler(p: Problem, cost: str, beta: float, course: Course) -> Tensor:
    """The states of torch's Euler steps, free and then nudged, [T, B, n]."""
    settings, (free, nudged) = course.quantities(), course.steps()
    solver = Euler(float(settings["dt"] / settings["tau"]))
    s = p.field.initial_state(p.field.drive(p.x))
    states = [s.clone()]
    for part, steps in zip(dynamics(p, cost, beta), (free, nudged), strict=True):
        for _ in range(steps):
            solver.step(part, s, solver.init(part, s))
            states.append(s.clone())
    return torch.stack(states)


def force(part: Layered, s: np.ndarray) -> np.ndarray:
    """F(s) of flattened states, in membrane time constants."""
    state = torch.from_numpy(s.reshape(-1, part.field.n))
    return part.force(state, torch.empty_like(state)).numpy().ravel()
