"""Magnetic mirror descent as a regression over pairs; the reference is the magnet."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import Sampled
from nlhf.language.objectives.iterated import Iterated, regress


@dataclass(frozen=True, kw_only=True)
class Magnetic(Iterated):
    """1/(4 s) E_{y, y' ~ pi_t} (h(y) - h(y') - s (P(y > y') - 1/2))^2, s = eta / (1 + eta tau),
    h = log pi - (log pi_t + eta tau log mu) / (1 + eta tau): the proximal step.

    If `reference_every` is set, the magnet moves and the method solves the unregularised game.

    Source: Sokota et al. 2023 (arXiv 2206.05825), equation 10; Wang et al. 2024 (arXiv 2410.16714),
    for language models.
    """

    name = "magnetic"

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        pull = self.eta * self.tau(step)
        base = (self.anchored(sampled) + pull * sampled.total(sampled.log_mu)) / (1 + pull)
        return regress(sampled, base, self.eta / (1 + pull))
