"""Optimistic mirror descent, which on the simplex is optimistic multiplicative weights."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.base import (
    AbstractAlgorithm,
    Problem,
    Schedule,
    State,
    ascend,
    rate_at,
    toward_reference,
)
from nlhf.errors import InputError


@dataclass(frozen=True)
class Optimistic(AbstractAlgorithm):
    """log pi_{t+1} = (1 - eta tau) log pi_t + eta tau log mu + eta (g_t + o (g_t - g_{t-1})),
    g_t = P(. > pi_t).

    Attributes:
        eta: constant or a function of the step, at most 1 / tau; min(0.5, 1 / (2 tau)) if None.
        optimism: weight o of the optimistic term; 1 is optimistic mirror descent, 0 is plain
            multiplicative weights.

    Source: Rakhlin and Sridharan 2013 (arXiv 1311.1869), section 4, on the regularised game.
    """

    name = "optimistic"
    mixes = True
    eta: float | Schedule | None = None
    optimism: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.optimism <= 1:
            raise InputError(f"optimism={self.optimism} must lie in [0, 1]")

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step, largest=0.5)
        gain = problem.feedback(state.log_pi)
        last = state.memory.get("gain", gain)
        base = toward_reference(problem, state.log_pi, eta)
        log_pi = ascend(base, gain + self.optimism * (gain - last), eta)
        return State(log_pi, state.step + 1, {"gain": gain})
