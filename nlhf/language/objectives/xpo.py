"""XPO: online DPO against the reference's answers, with an exploration bonus."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from nlhf.errors import InputError
from nlhf.language.objectives.base import MIXTURE, Draw, Plan, Sampled
from nlhf.language.objectives.iterated import Iterated


@dataclass(frozen=True, kw_only=True)
class XPO(Iterated):
    """1/tau E_{y ~ pi_t, y' ~ mu} [alpha log pi(y') - P log s(m) - (1 - P) log s(-m)],
    P = P(y > y'), m = tau (log(pi/mu)(y) - log(pi/mu)(y')), s the logistic function.

    It assumes a reward: it converges to RLHF's policy if preferences are Bradley-Terry.

    Attributes:
        alpha: weight of the bonus, >= 0; 0 is online DPO.

    Source: Xie et al. 2024 (arXiv 2405.21046), algorithm 1, with P in place of one label.
    """

    name = "xpo"
    reads_cuts = True
    alpha: float = 1e-5
    samples: int = 1

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise InputError(f"alpha={self.alpha:g} must be at least 0")
        super().__post_init__()

    def needs(self, answers: int, why: str) -> None:
        """One answer per policy suffices: each pair has one answer of either policy."""

    def plan(self, step: int) -> Plan:
        draws = (self.drawn(self.samples), Draw(self.samples, MIXTURE, 1.0))
        return Plan(draws, asks="pairs")

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        assert sampled.preference is not None
        tau, n = self.tau(step), self.samples
        log_pi = sampled.total(sampled.log_pi)
        h = tau * (log_pi - sampled.total(sampled.log_mu))
        margin = h[:, :n, None] - h[:, None, n:]
        # penalties may exceed the range, and the loss is then unbounded below
        wins = sampled.preference[:, :n, n:].clamp(0, 1)
        labels = wins * logsigmoid(margin) + (1 - wins) * logsigmoid(-margin)
        return (self.alpha * log_pi[:, n:].mean() - labels.mean()) / tau
