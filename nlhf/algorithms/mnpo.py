"""MNPO: multiplicative weights against a population of recent policies."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, ascend, rate_at
from nlhf.errors import InputError


@dataclass(frozen=True)
class MNPO(AbstractAlgorithm):
    """pi_{t+1} ~ (prod_j pi_{t-j})^(1/(n-1)) exp(eta/(n-1) sum_j P(. > pi_{t-j})), j = 0 .. n-2.

    With two players it is SPPO. There is no regularisation, so where preferences cycle only the
    mean of the iterates converges.

    Attributes:
        eta: constant or a function of the step.
        players: number n of players, >= 2; the opponents are the last n - 1 policies.

    Source: Wu et al. 2025 (arXiv 2509.23102v1), equation 11 and section 3.2 (time-dependent).
    """

    name = "mnpo"
    solves = "plain"
    reads_tau = False
    eta: float | Schedule = 1.0
    players: int = 3

    def __post_init__(self) -> None:
        if self.players < 2:
            raise InputError(f"players={self.players} must be at least 2")

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        others = [state.memory[name] for name in sorted(state.memory)]
        opponents = [state.log_pi, *others][: self.players - 1]
        gains = torch.stack([problem.feedback(each) for each in opponents])
        base = torch.stack(opponents).mean(0)
        kept = opponents[: self.players - 2]
        memory = {f"past-{j:04d}": each for j, each in enumerate(kept)}
        return State(ascend(base, gains.mean(0), eta), state.step + 1, memory)
