"""Nash mirror prox: two proximal steps; the second plays against the result of the first."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, proximal, rate_at


@dataclass(frozen=True)
class MirrorProx(AbstractAlgorithm):
    """pi' = prox(pi_t; P(. > pi_t)), pi_{t+1} = prox(pi_t; P(. > pi')), with
    prox(q; g) = argmax_p eta <g, p> - eta tau KL(p, mu) - KL(p, q).

    Linear convergence of the last iterate.

    Attributes:
        eta: constant or a function of the step.

    Source: Tiapkin et al. 2025 (arXiv 2505.19731v1), section 3.
    """

    name = "mirror-prox"
    eta: float | Schedule = 2.0

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        ahead = proximal(problem, state.log_pi, problem.feedback(state.log_pi), eta)
        log_pi = proximal(problem, state.log_pi, problem.feedback(ahead), eta)
        return State(log_pi, state.step + 1)
