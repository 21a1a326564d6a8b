"""The Nash-MD loss of TRL 1.13's NashMDTrainer, for comparison with the unbiased loss.

It has two deviations. A token's score is multiplied only by that token's log-ratio, although the
log-ratios of all later tokens depend on it too. And with LoRA, the "reference" of its mixture is
the model with the adapter enabled, so that the opponent is the policy itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.language.enumeration import (
    Language,
    gradient_of,
    log_probabilities,
    mixture_log_probabilities,
    true_objective,
)
from nlhf.language.objectives import Draw, Sampled
from nlhf.language.objectives.base import MIXTURE
from nlhf.language.objectives.nash_md import NashMD
from nlhf.language.policy import Policy
from nlhf.language.scoring import score


def published_loss(sampled: Sampled, tau: float) -> Tensor:
    """Minus the mean of sum_t log pi(y_t) (P(y > y') - 1/2 - tau log(pi/mu)(y_t)).

    Source: `NashMDTrainer._compute_losses` of TRL 1.13.0.
    """
    own = ((sampled.log_pi - sampled.log_mu) * sampled.mask).detach()
    gain = sampled.reward[..., None] - 0.5 - tau * own
    return -(sampled.mask * sampled.log_pi * gain.detach()).sum(-1).mean()


@dataclass(frozen=True, kw_only=True)
class PublishedNashMD(NashMD):
    """Nash-MD with the published loss; with `lora` it plays against the policy itself."""

    lora: bool = False

    def opponent(self, step: int) -> Draw:
        return Draw(self.opponents, MIXTURE, 0.0 if self.lora else self.mixture(step))

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        return published_loss(sampled, self.tau(step))


def bias(
    policy: Policy, language: Language, P: Tensor, tau: float, weight: float, lora: bool
) -> tuple[float, float]:
    """Measure the bias of the published gradient's mean, by enumerating all answers.

    Returns:
        The largest error of an entry, and the largest entry of the true gradient.
    """
    q = mixture_log_probabilities(policy, language, weight).exp().to(P)
    opponent = mixture_log_probabilities(policy, language, 0.0 if lora else weight).exp().to(P)

    def true() -> Tensor:
        log_pi = log_probabilities(policy, language).to(P)
        log_mu = log_probabilities(policy, language, reference=True).to(P)
        return true_objective(log_pi, log_mu, P @ q, tau)

    def published() -> Tensor:
        given = (policy, language.prompt, language.tokens, language.mask)
        log_pi = score(*given, index=language.rows).log_prob.to(P)
        with torch.no_grad():
            log_mu = score(*given, index=language.rows, reference=True).log_prob.to(P)
        chance = log_pi.detach().sum(-1).exp()
        gain = (P @ opponent)[:, None] - 0.5 - tau * (log_pi - log_mu).detach()
        return (chance * (log_pi * gain).sum(-1)).sum()

    right, wrong = (
        torch.cat([each.flatten() for each in gradient_of(function, policy).values()])
        for function in (true, published)
    )
    return float((wrong - right).abs().max()), float(right.abs().max())
