"""SPPO: self-play by multiplicative weights, without a reference."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, ascend, rate_at


@dataclass(frozen=True)
class SPPO(AbstractAlgorithm):
    """pi_{t+1} ~ pi_t exp(eta P(. > pi_t)), from mu.

    The mean of the iterates converges to an equilibrium of the game without regularisation at
    rate O(1/sqrt(T)). The last iterate converges where one action beats all others (linearly, at
    a rate set by the margin) and spirals outward where preferences cycle.

    Attributes:
        eta: constant or a function of the step.

    Source: Wu et al. 2024 (arXiv 2405.00675), equation 4.1 and theorem 4.1; Freund and Schapire
    1999.
    """

    name = "sppo"
    solves = "plain"
    reads_tau = False
    eta: float | Schedule = 1.0

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        gain = problem.feedback(state.log_pi)
        return State(ascend(state.log_pi, gain, eta), state.step + 1)
