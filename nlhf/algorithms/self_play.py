"""Self-play: regularised mirror descent against the policy itself."""

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
class SelfPlay(AbstractAlgorithm):
    """log pi_{t+1} = (1 - eta tau) log pi_t + eta tau log mu + eta P(. > pi_t) + const.

    Attributes:
        eta: constant, a function of the step, or None for 2 / (tau (t + 2)).

    Source: the mirror descent of Munos et al. 2023 (arXiv 2312.00886), section 6, with the policy
    in place of the mixture.
    """

    name = "self-play"
    mixes = True
    eta: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        base = toward_reference(problem, state.log_pi, eta)
        return State(ascend(base, problem.feedback(state.log_pi), eta), state.step + 1)
