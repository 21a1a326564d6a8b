"""INPO: mirror descent on the regularised game with a constant step."""

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
class INPO(AbstractAlgorithm):
    """log pi_{t+1} = (1 - eta tau) log pi_t + eta tau log mu + eta P(. > pi_t) + const.

    Self-play with a constant step: the last iterate converges linearly if eta is small compared
    with tau. The paper's eta is the inverse of this one.

    Attributes:
        eta: constant or a function of the step, at most 1 / tau; min(0.5, 1 / (2 tau)) if None.

    Source: Zhang et al. 2024 (arXiv 2407.00617), equations 4 and 5; theorem 4 bounds the last
    iterate for constant and for falling steps.
    """

    name = "inpo"
    mixes = True
    eta: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step, largest=0.5)
        base = toward_reference(problem, state.log_pi, eta)
        return State(ascend(base, problem.feedback(state.log_pi), eta), state.step + 1)
