"""Extragradient (EGPO): a look-ahead step, then the actual step with the look-ahead's gain."""

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


@dataclass(frozen=True)
class Extragradient(AbstractAlgorithm):
    """With base = (1 - eta tau) log pi_t + eta tau log mu:
    log pi' = base + eta P(. > pi_t), log pi_{t+1} = base + eta P(. > pi'), + const.

    Linear convergence of the last iterate.

    Attributes:
        eta: constant or a function of the step, at most 1 / tau; min(2, 1 / (2 tau)) if None.

    Source: Zhou et al. 2025 (arXiv 2503.08942), algorithm 1.
    """

    name = "extragradient"
    mixes = True
    eta: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step, largest=2.0)
        base = toward_reference(problem, state.log_pi, eta)
        ahead = ascend(base, problem.feedback(state.log_pi), eta)
        return State(ascend(base, problem.feedback(ahead), eta), state.step + 1)
