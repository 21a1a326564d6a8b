"""Nash-EMA: mirror descent against an exponential moving average of the policy."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import (
    AbstractAlgorithm,
    Problem,
    Schedule,
    State,
    ascend,
    rate_at,
    toward_reference,
)
from nlhf.errors import InputError
from nlhf.mixture import mixed


@dataclass(frozen=True)
class NashEMA(AbstractAlgorithm):
    """Self-play against log other_{t+1} = (1 - a) log other_t + a log pi_{t+1} + const.

    On tables the averaged parameters are log-probabilities.

    Attributes:
        eta: constant, a function of the step, or None for 2 / (tau (t + 2)).
        rate: a in (0, 1]; 1 is self-play.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3.
    """

    name = "nash-ema"
    mixes = True
    eta: float | Schedule | None = None
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise InputError(f"rate={self.rate} of the moving average must lie in (0, 1]")

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step)
        other = state.memory.get("other", state.log_pi)
        base = toward_reference(problem, state.log_pi, eta)
        log_pi = ascend(base, problem.feedback(other), eta)
        other = mixed(other, log_pi, torch.full_like(problem.tau, self.rate))
        return State(log_pi, state.step + 1, {"other": other})
