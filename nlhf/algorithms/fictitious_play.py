"""Fictitious play: the average of best responses to itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import AbstractAlgorithm, Problem, State


@dataclass(frozen=True)
class FictitiousPlay(AbstractAlgorithm):
    """pi_{t+1} = pi_t + (BR(pi_t) - pi_t) / (t + 2): smooth best responses, averaged.

    Source: Fudenberg and Levine 1998, The Theory of Learning in Games, chapter 4.
    """

    name = "fictitious-play"

    def step(self, problem: Problem, state: State) -> State:
        gain = problem.feedback(state.log_pi) / problem.tau[..., None]
        response = torch.log_softmax(problem.log_mu + gain, -1)
        share = torch.as_tensor(1.0 / (state.step + 2), dtype=response.dtype)
        log_pi = torch.logaddexp(state.log_pi + (-share).log1p(), response + share.log())
        return State(torch.log_softmax(log_pi, -1), state.step + 1)
