"""The best response to the reference, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.base import MIXTURE, Draw
from nlhf.language.objectives.policy_gradient import Opposed


@dataclass(frozen=True, kw_only=True)
class BestResponse(Opposed):
    """pi' = mu: Nash-MD at mixture weight 1.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3.
    """

    name = "best-response"

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, MIXTURE, 1.0)
