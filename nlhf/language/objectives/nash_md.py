"""Nash-MD: the opponent is the mixture of the policy with the reference."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.base import MIXTURE, Draw, Schedule
from nlhf.language.objectives.policy_gradient import Opposed


@dataclass(frozen=True, kw_only=True)
class NashMD(Opposed):
    """pi' = pi^(1-b) mu^b, normalised at each prefix.

    Attributes:
        mixture: b by step, in [0, 1].

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """

    name = "nash-md"
    mixture: Schedule

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, MIXTURE, self.mixture(step))
