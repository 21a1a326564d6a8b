"""SPPO: fit each answer's log-ratio to pi_t to its win rate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import Sampled
from nlhf.language.objectives.iterated import Iterated


@dataclass(frozen=True, kw_only=True)
class SPPO(Iterated):
    """1/(2 eta) E_{y ~ pi_t} (log(pi/pi_t)(y) - eta (P(y > pi_t) - 1/2))^2.

    P(y > pi_t) is the mean over the prompt's other answers. The reference does not enter: the
    method plays the unregularised game by multiplicative weights.

    Source: Wu et al. 2024 (arXiv 2405.00675), equation 4.6, with log Z at its value for P = 1/2.
    """

    name = "sppo"
    reads_tau = False

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        assert sampled.preference is not None
        n = self.samples
        wins = (sampled.preference.sum(-1) - 0.5) / (n - 1)  # the diagonal is 1/2
        gap = sampled.total(sampled.log_pi) - self.anchored(sampled) - self.eta * (wins - 0.5)
        return 0.5 / self.eta * gap.square().mean()
