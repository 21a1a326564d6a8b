"""ONPO: optimistic mirror descent, which predicts the next gain by the last one."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, ascend, rate_at


@dataclass(frozen=True)
class ONPO(AbstractAlgorithm):
    """pi_t ~ base_t exp(eta r_{t-1}), base_{t+1} ~ base_t exp(eta r_t), r_t = P(. > pi_t).

    There is no regularisation. The mean of the iterates has a duality gap of O(1/T). The last
    iterate converges linearly where the equilibrium is unique (Wei et al. 2021, arXiv 2006.09517).

    Attributes:
        eta: constant or a function of the step.

    Source: Zhang et al. 2025 (arXiv 2502.16852), algorithm 1 and theorem 2.
    """

    name = "onpo"
    solves = "plain"
    reads_tau = False
    eta: float | Schedule = 0.5

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        base = state.memory.get("base", state.log_pi)
        gain = problem.feedback(state.log_pi)
        base = ascend(base, gain, eta)
        return State(ascend(base, gain, eta), state.step + 1, {"base": base})
