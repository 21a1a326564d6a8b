"""Nash mirror prox: two proximal steps from pi_t; the second plays against the first's result."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import Draw, Held, Parameters, Plan, Sampled, copied
from nlhf.language.objectives.iterated import ANCHOR, TwoPhases, regress

AHEAD = "ahead"


@dataclass(frozen=True, kw_only=True)
class MirrorProx(TwoPhases):
    """1/(4 s) E_{y, y' ~ q} (h(y) - h(y') - s (P(y > y') - 1/2))^2, s = eta / (1 + eta tau),
    h = log pi - (log pi_t + eta tau log mu) / (1 + eta tau).

    The first phase uses q = pi_t and gives pi'; the second uses q = pi' and gives pi_{t+1}.

    Source: Tiapkin et al. 2025 (arXiv 2505.19731v1), section 3.
    """

    name = "mirror-prox"

    @property
    def holds(self) -> tuple[str, ...]:
        return (ANCHOR, AHEAD)

    def plan(self, step: int) -> Plan:
        drawn = Draw(self.samples, ANCHOR if self.first(step) else AHEAD)
        return Plan((drawn,), asks="pairs", held=(ANCHOR,))

    def after(self, held: Held, now: Parameters, step: int) -> None:
        if self.ends(step):
            held[AHEAD if self.first(step - 1) else ANCHOR] = copied(now)

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        pull = self.eta * self.tau(step)
        base = (self.anchored(sampled) + pull * sampled.total(sampled.log_mu)) / (1 + pull)
        return regress(sampled, base, self.eta / (1 + pull))
