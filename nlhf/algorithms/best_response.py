"""The best response to the reference, for comparison: not an equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import AbstractAlgorithm, Problem, State


@dataclass(frozen=True)
class BestResponse(AbstractAlgorithm):
    """pi ~ mu exp(P(. > mu) / tau), found in one step.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3 (mixture weight 1).
    """

    name = "best-response"
    solves = "other"

    def step(self, problem: Problem, state: State) -> State:
        gain = problem.feedback(problem.log_mu.expand_as(state.log_pi))
        log_pi = torch.log_softmax(problem.log_mu + gain / problem.tau[..., None], -1)
        return State(log_pi, state.step + 1)
