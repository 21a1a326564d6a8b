"""Nash-MD: mirror descent against the geometric mixture of the policy and the reference."""

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
class NashMD(AbstractAlgorithm):
    """mix_t ~ pi_t^(1 - eta tau) mu^(eta tau); log pi_{t+1} = log mix_t + eta P(. > mix_t) + const.

    With eta_t = 2 / (tau (t + 2)), KL(pi*, pi_T) <= 8 / (tau^2 (T + 1)). With a constant eta its
    fixed point is not pi*.

    Attributes:
        eta: constant, a function of the step, or None for the theorem's.

    Source: Munos et al. 2023 (arXiv 2312.00886), equations 4 and 5, theorem 1.
    """

    name = "nash-md"
    eta: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        mixture = toward_reference(problem, state.log_pi, eta)
        log_pi = ascend(mixture, problem.feedback(mixture), eta)
        return State(log_pi, state.step + 1)
