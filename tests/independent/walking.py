"""Continual updates step by step, and what rounding does to them on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from tests.independent.flows import Pulled
from tests.independent.network import Cost, Network
from tests.independent.updates import Updates, mean, one_sided, spread

FULL_NUDGE, ROUNDINGS = 0.1, 4
"""The beta below which the tolerance shrinks in proportion, and its floor in rounding units."""
SHAKES = 2
"""Walks with random rounding errors that each walk is compared with."""


@dataclass(frozen=True)
class Rule:
    """theta_{t+1} = theta_t + rate u_t, u_t the update of one Euler step of all rows.

    Attributes:
        rebuild: weights -> Network.
        weights: theta_0.
        rows: input, target, free state and signed beta of each row (of both signs, if centered);
            u_t is the mean over them.
        cost: C.
        dt: of the Euler steps.
        rate: of the parameters within the phase.
    """

    rebuild: Callable[[Updates], Network]
    weights: Updates
    rows: Sequence[tuple[ndarray, ndarray, ndarray, float]]
    cost: Cost
    dt: float
    rate: float


def tolerance_of(tolerance: float, beta: float, eps: float) -> float:
    """The relative residual at which a phase nudged by `beta` ends, if its states are absolute."""
    return max(tolerance * min(1.0, abs(beta) / FULL_NUDGE), min(tolerance, ROUNDINGS * eps))


def walk(
    rule: Rule, steps: int, eps: float = 0.0, rng: np.random.Generator | None = None
) -> tuple[Updates, ndarray]:
    """The sum of the updates of `steps` steps, and the largest residual after each.

    With `rng`, each force and each parameter suffers a random error of up to `eps` of the terms
    that it is a sum of, as rounding causes.
    """

    def error(terms: ndarray) -> ndarray | float:
        return 0.0 if rng is None else eps * terms * rng.uniform(-1, 1, terms.shape)

    theta = {name: np.array(value) for name, value in rule.weights.items()}
    total = {name: np.zeros_like(value) for name, value in rule.weights.items()}
    states, residuals = [free for _, _, free, _ in rule.rows], []
    for _ in range(steps):
        net = rule.rebuild(theta)
        flows = [Pulled(net, x, y, rule.cost, beta) for x, y, _, beta in rule.rows]
        moved = [
            s + rule.dt * flow.force(s) + error(_terms(flow, s))
            for flow, s in zip(flows, states, strict=True)
        ]
        residuals.append(
            max(
                np.linalg.norm(flow.force(s)) / max(np.linalg.norm(s), 1e-300)
                for flow, s in zip(flows, moved, strict=True)
            )
        )
        update = mean(
            (
                spread(net, x, s, one_sided(net, s, new, beta))
                for (x, _, _, beta), s, new in zip(rule.rows, states, moved, strict=True)
            ),
            len(rule.rows),
        )
        for name, value in update.items():
            total[name] += value + error(np.abs(value))
            theta[name] = theta[name] + rule.rate * value + error(np.abs(theta[name]))
        states = moved
    return total, np.array(residuals)


def shaken(rule: Rule, eps: float, total: Updates, residuals: ndarray) -> tuple[float, ndarray]:
    """How far rounding moves what an exact `walk` gives: the sum, and the residual of each step."""
    away, apart = 0.0, np.zeros(len(residuals))
    for seed in range(SHAKES):
        other, left = walk(rule, len(residuals), eps, np.random.default_rng(seed))
        away = max(away, np.sqrt(sum(np.sum((other[k] - total[k]) ** 2) for k in total)))
        apart = np.maximum(apart, np.abs(left - residuals))
    return float(away), apart


def _terms(flow: Pulled, s: ndarray) -> ndarray:
    """The sum of the sizes of the terms of a state's next value."""
    net = flow.net
    currents = np.abs(net.w) @ np.abs(net.fire(s)) + np.abs(net.v) @ np.abs(flow.x)
    return currents + np.abs(net.b) + np.abs(flow.pull(s)) + np.abs(s)
