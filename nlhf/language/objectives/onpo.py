"""ONPO: optimistic mirror descent; two policies are fitted against one opponent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import Draw, Held, Parameters, Plan, Sampled, copied
from nlhf.language.objectives.iterated import TwoPhases, regress

BASE = "base"
PLAYED = "played"


@dataclass(frozen=True, kw_only=True)
class ONPO(TwoPhases):
    """1/(4 eta) E_{y, y' ~ pi_t} (h(y) - h(y') - eta (P(y > y') - 1/2))^2, h = log pi - log base.

    The first phase has base_t and gives base_{t+1}; the second has base_{t+1} and gives pi_{t+1}:
    the gain of pi_t predicts the next one. There is no regularisation.

    Source: Zhang et al. 2025 (arXiv 2502.16852), algorithm 1.
    """

    name = "onpo"
    reads_tau = False

    @property
    def holds(self) -> tuple[str, ...]:
        return (BASE, PLAYED)

    def plan(self, step: int) -> Plan:
        return Plan((Draw(self.samples, PLAYED),), asks="pairs", held=(BASE,))

    def after(self, held: Held, now: Parameters, step: int) -> None:
        if self.ends(step):
            held[BASE if self.first(step - 1) else PLAYED] = copied(now)

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        return regress(sampled, self.anchored(sampled, BASE), self.eta)
