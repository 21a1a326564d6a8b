"""INPO: mirror descent steps on the regularised game, as a regression over pairs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.objectives.base import Sampled
from nlhf.language.objectives.iterated import Iterated, regress


@dataclass(frozen=True, kw_only=True)
class INPO(Iterated):
    """1/(4 eta) E_{y, y' ~ pi_t} (h(y) - h(y') - eta (P(y > y') - 1/2))^2, with
    h = log pi - (1 - eta tau) log pi_t - eta tau log mu.

    Source: Zhang et al. 2024 (arXiv 2407.00617), equations 7 and 8, with 1 / eta for eta.
    """

    name = "inpo"

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        pull = self.eta * self.tau(step)
        if pull > 1:
            raise InputError(
                f"eta={self.eta:g} with tau={self.tau(step):g}: {self.name} mixes with weight eta "
                "tau, which must not exceed 1; use a smaller eta"
            )
        base = (1 - pull) * self.anchored(sampled) + pull * sampled.total(sampled.log_mu)
        return regress(sampled, base, self.eta)
