"""Nash-EMA: the opponent is a network with a moving average of the policy's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bioplaus.phases import free_phase
from bioplaus.sharding import Step
from bioplaus.training.objective import Pupil
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View
from bioplaus_votes.rules import log_policy
from bridge.checkpoint import restore
from bridge.errors import InputError


class NashEMA(AbstractVoting):
    """theta'_{t+1} = (1 - a) theta'_t + a theta_{t+1}; the opponent is the policy of theta'.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3.
    """

    name = "nash-ema"

    def __init__(self, judge: Any, *, rate: float = 0.01, **settings: Any) -> None:
        """Take a in (0, 1]; 1 is self-play. For `settings` see `AbstractVoting`."""
        super().__init__(judge, **settings)
        if not 0 < rate <= 1:
            raise InputError(f"rate={rate} of the moving average must lie in (0, 1]")
        self.rate = rate

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "rate": self.rate}

    def begin(self, run: Pupil) -> None:
        super().begin(run)
        self._average = {name: p.clone() for name, p in run.field.parameters.items()}

    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        for name, parameter in run.field.parameters.items():
            self._average[name].lerp_(parameter, self.rate)
        return super().estimate(run, rows)

    def opponent(self, run: Pupil, view: View) -> Tensor:
        other = run.field.with_parameters(self._average)
        free = free_phase(other, view.x, settling=run.estimator.settling)
        return log_policy(free.s[:, other.output], view.log_mu)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        restore(self._average, state["average"])
