"""Magnetic mirror descent: a proximal step with the reference as magnet."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, proximal, rate_at
from nlhf.errors import InputError


@dataclass(frozen=True)
class Magnetic(AbstractAlgorithm):
    """pi_{t+1} = argmax_p eta <P(. > pi_t), p> - eta tau KL(p, mu) - KL(p, pi_t).

    Linear convergence for eta <= tau / L^2; larger steps work on most games. With a moving
    magnet, the last iterate converges to an equilibrium of the game without regularisation.

    Attributes:
        eta: constant or a function of the step.
        magnet_every: number of steps after which the policy replaces the reference; 0 means never.

    Source: Sokota et al. 2023 (arXiv 2206.05825), equation 10 and theorem 3.4; moving
        magnet: Wang et al. 2024 (arXiv 2410.16714), section 3.2.
    """

    name = "magnetic"
    eta: float | Schedule = 1.0
    magnet_every: int = 0

    def __post_init__(self) -> None:
        if self.magnet_every < 0:
            raise InputError(f"magnet_every={self.magnet_every} must be at least 0")

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        gain = problem.feedback(state.log_pi)
        if not self.magnet_every:
            return State(proximal(problem, state.log_pi, gain, eta), state.step + 1)
        magnet = state.memory.get("magnet", state.log_pi)
        log_pi = proximal(replace(problem, log_mu=magnet), state.log_pi, gain, eta)
        moves = (state.step + 1) % self.magnet_every == 0
        return State(log_pi, state.step + 1, {"magnet": log_pi if moves else magnet})
