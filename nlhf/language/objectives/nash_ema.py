"""Nash-EMA: the opponent is an exponential moving average of the policy."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.errors import InputError
from nlhf.language.objectives.base import Draw, Held, Parameters, copied
from nlhf.language.objectives.policy_gradient import Opposed


@dataclass(frozen=True, kw_only=True)
class NashEMA(Opposed):
    """pi' has the parameters average <- (1 - a) average + a policy.

    Attributes:
        ema_rate: a in (0, 1].

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3.
    """

    name = "nash-ema"
    ema_rate: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ema_rate <= 1:
            raise InputError(f"ema_rate={self.ema_rate} must lie in (0, 1]")

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, "average")

    def start(self, now: Parameters) -> Held:
        return {"average": copied(now)}

    def after(self, held: Held, now: Parameters, step: int) -> None:
        for name, parameter in now.items():
            held["average"][name].lerp_(parameter.detach(), self.ema_rate)
