"""Where a differential equation goes: scipy's integrators, Newton's method and eigenvalues."""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
from numpy import ndarray
from scipy.integrate import solve_ivp

FAR = 1e5
"""A state of this norm is on its way to infinity."""
MOST = 20_000
"""Evaluations of a force within which a flow must have been followed."""


class Flow(Protocol):
    """ds/dt = force(s)."""

    def force(self, s: ndarray) -> ndarray:
        """ds/dt."""
        ...

    def jacobian(self, s: ndarray) -> ndarray:
        """The derivative of the force."""
        ...

    def edge(self, s: ndarray) -> float:
        """Distance to the nearest corner of the force."""
        ...


def follow(flow: Flow, start: ndarray, time: float, accuracy: float = 1e-6) -> ndarray:
    """The state at `time` of a flow that starts at `start`; NaN where it grows without bound."""

    asked = 0

    def force(_: float, s: ndarray) -> ndarray:
        nonlocal asked
        asked += 1
        # a state that has left for infinity, or cannot be followed, is left where it is
        going = asked < MOST and np.linalg.norm(s) < FAR
        return flow.force(s) if going else np.zeros_like(s)

    accuracies = {"rtol": accuracy, "atol": 1e-2 * accuracy}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what scipy could not follow ends as NaN
        end = solve_ivp(force, (0.0, time), start, method="RK45", t_eval=[time], **accuracies)
    arrived = asked < MOST and end.success and end.y.size and np.linalg.norm(end.y) < FAR
    return end.y[:, -1] if arrived else np.full_like(start, np.nan)


def polish(flow: Flow, start: ndarray, steps: int = 30) -> ndarray | None:
    """The zero of the force next to `start`, by Newton's method; None where it finds none."""
    s = start
    for _ in range(steps):
        f = flow.force(s)
        if np.linalg.norm(f) <= 1e-14 * (1 + np.linalg.norm(s)):
            return s
        try:
            s = s - np.linalg.solve(flow.jacobian(s), f)
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(s).all():
            return None
    return s if np.linalg.norm(flow.force(s)) <= 1e-12 * (1 + np.linalg.norm(s)) else None


def growth(flow: Flow, s: ndarray) -> float:
    """The largest real part of the eigenvalues of the Jacobian: < 0 at an attractor."""
    return float(np.linalg.eigvals(flow.jacobian(s)).real.max())


def sluggishness(flow: Flow, s: ndarray) -> float:
    """||J^-1||_2: how far from a zero a small force can leave the state, over that force."""
    return float(1 / max(np.linalg.svd(flow.jacobian(s), compute_uv=False)[-1], 1e-300))


def returns(flow: Flow, s: ndarray, kick: ndarray, rate: float) -> bool:
    """Whether a flow that starts at s + kick comes back to s, whose neighbours decay at `rate`."""
    end = follow(flow, s + kick, 12.0 / rate, accuracy=1e-8)
    return bool(np.linalg.norm(end - s) < 0.1 * np.linalg.norm(kick))
