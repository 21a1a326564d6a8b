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
from nlhf.mixture import geometric_mixture


@dataclass(frozen=True)
class NashMD(AbstractAlgorithm):
    """mix_t ~ pi_t^(1 - b) mu^b, b = eta tau; log pi_{t+1} = log mix_t + eta P(. > mix_t) + const.

    With eta_t = 2 / (tau (t + 2)), KL(pi*, pi_T) <= 8 / (tau^2 (T + 1)). With a constant eta its
    fixed point is not pi*.

    Attributes:
        eta: constant, a function of the step, or None for the theorem's rate.
        mixture: weight b of the reference in [0, 1] instead of eta tau; constant or a function of
            the step.

    Source: Munos et al. 2023 (arXiv 2312.00886), equations 4 and 5, theorem 1.
    """

    name = "nash-md"
    mixes = True
    eta: float | Schedule | None = None
    mixture: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        if self.mixture is None:
            mixture = toward_reference(problem, state.log_pi, eta)
        else:
            weight = self.mixture(state.step) if callable(self.mixture) else self.mixture
            mixture = geometric_mixture(state.log_pi, problem.log_mu, weight)
        log_pi = ascend(mixture, problem.feedback(mixture), eta)
        return State(log_pi, state.step + 1)
