"""Extragradient (EGPO): the opponent is the policy after a step of self-play."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import MIXTURE, Draw, Estimator, Plan
from nlhf.language.objectives.policy_gradient import Opposed


@dataclass(frozen=True, kw_only=True)
class Extragradient(Opposed):
    """pi' = pi + a step of self-play; the actual step starts from pi.

    Both steps are policy gradients; the paper's code fits pairs of answers by regression instead.

    Source: Zhou et al. 2025 (arXiv 2503.08942), algorithm 1.
    """

    name = "extragradient"

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, "ahead")

    def updates(
        self, estimator: Estimator, step: int
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        against = (Draw(self.opponents, MIXTURE, 0.0),)
        first = Plan((Draw(self.samples),), against, full=self.kl == "full")
        ahead = estimator.ahead(estimator.estimate(first)[0])
        return estimator.estimate(self.plan(step), {"ahead": ahead})
