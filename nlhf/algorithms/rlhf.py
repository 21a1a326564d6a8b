"""RLHF on a Bradley-Terry reward, for comparison: not an equilibrium where preferences cycle."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import AbstractAlgorithm, Problem, State
from nlhf.preferences.bradley_terry import fit_bradley_terry


@dataclass(frozen=True)
class RLHF(AbstractAlgorithm):
    """pi ~ mu exp(r / tau), where r is the Bradley-Terry reward that fits P best.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 2; Bradley and Terry 1952.
    """

    name = "rlhf"
    solves = "other"
    asks = False

    def step(self, problem: Problem, state: State) -> State:
        reward = state.memory.get("reward")
        if reward is None:
            reward = fit_bradley_terry(problem.P)
        log_pi = torch.log_softmax(problem.log_mu + reward / problem.tau[..., None], -1)
        return State(log_pi, state.step + 1, {"reward": reward})
