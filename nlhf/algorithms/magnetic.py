"""Magnetic mirror descent: a proximal step with the reference as magnet."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, proximal, rate_at


@dataclass(frozen=True)
class Magnetic(AbstractAlgorithm):
    """pi_{t+1} = argmax_p eta <P(. > pi_t), p> - eta tau KL(p, mu) - KL(p, pi_t).

    Linear convergence for eta <= tau / L^2; larger steps work on most games.

    Attributes:
        eta: constant or a function of the step.

    Source: Sokota et al. 2023 (arXiv 2206.05825), equation 5.
    """

    name = "magnetic"
    eta: float | Schedule = 1.0

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        gain = problem.feedback(state.log_pi)
        return State(proximal(problem, state.log_pi, gain, eta), state.step + 1)
