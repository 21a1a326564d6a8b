"""DNO: fit the policy's odds between two answers to the odds of their rewards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from nlhf.language.objectives.base import Plan, Sampled
from nlhf.language.objectives.iterated import Iterated


@dataclass(frozen=True, kw_only=True)
class DNO(Iterated):
    """-2 eta E_{y, y' ~ pi_t} [s(r - r') log s(m) + s(r' - r) log s(-m)], s the logistic function,
    m = (log(pi/pi_t)(y) - log(pi/pi_t)(y')) / eta, r = P(y > pi_t).

    r is the mean over `opponents` answers of pi_t, the same for y and y'. Since s(r - r') is
    nonlinear, few opponents bias it (by r's variance, times at most 0.05). For any number of them,
    the loss is an unbiased estimate of its own expectation at that number. There is no
    regularisation.

    Attributes:
        opponents: answers that r is a mean over, >= 1.

    Source: Rosset et al. 2024 (arXiv 2404.03715), algorithm 1, with 1 / eta for eta.
    """

    name = "dno"
    reads_tau = False
    reads_cuts = True
    opponents: int = 1

    def plan(self, step: int) -> Plan:
        own, others = self.drawn(self.samples), self.drawn(self.opponents)
        return Plan((own,), (others,), held=self.holds)

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        h = (sampled.total(sampled.log_pi) - self.anchored(sampled)) / self.eta
        r = sampled.reward
        first, second = (h.new_ones(h.shape[1], h.shape[1]).triu(1) > 0).nonzero().unbind(1)
        margin, better = h[:, first] - h[:, second], (r[:, first] - r[:, second]).sigmoid()
        losses = better * logsigmoid(margin) + (1 - better) * logsigmoid(-margin)
        return -2 * self.eta * losses.mean()
