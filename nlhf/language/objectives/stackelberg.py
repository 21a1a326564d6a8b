"""Stackelberg: one policy leads, and also follows, knowing the leader's answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import Draw, Plan, Sampled
from nlhf.language.objectives.policy_gradient import PolicyGradient, policy_gradient_loss
from nlhf.language.prompts import Prompt

ASKED = "Improve the previous answer."
"""The follower's instruction after the leader's answer."""


def follower_prompt(prompt: Prompt, answer: str) -> Prompt:
    """The follower's prompt: the prompt, the leader's answer, and a request to improve it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    reply = {"role": "assistant", "content": answer}
    return [*messages, reply, {"role": "user", "content": ASKED}]


@dataclass(frozen=True, kw_only=True)
class Stackelberg(PolicyGradient):
    """Two policy gradients of one model, each with the other's answers held fixed: the leader's,
    P(y > w(. | x, y)) - tau KL(pi(. | x), mu), and the follower's,
    P(y' > y) - tau KL(w(. | x, y), mu), with w(. | x, y) = pi(. | x, y, "improve this").

    Attributes:
        opponents: answers of the follower to each of the leader's, >= 1.

    Source: Pasztor et al. 2025 (arXiv 2512.16626), section 4, equation 5, with equal rates for
    both.
    """

    name = "stackelberg"
    opponents: int = 1

    def plan(self, step: int) -> Plan:
        return Plan(
            (Draw(self.samples),),
            full=self.kl == "full",
            follow=follower_prompt,
            followers=self.opponents,
        )

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        assert sampled.follower is not None
        tau = self.tau(step)
        follower = policy_gradient_loss(sampled.follower, tau, "half", 0.5)
        return super().loss(sampled, step) + follower
