"""Self-play: the opponent is the policy itself."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.base import MIXTURE, Draw
from nlhf.language.objectives.policy_gradient import Opposed


@dataclass(frozen=True, kw_only=True)
class SelfPlay(Opposed):
    """pi' = pi: Nash-MD at mixture weight 0.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3.
    """

    name = "self-play"

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, MIXTURE, 0.0)
