"""RLHF on a scalar reward, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.base import Draw, Plan
from nlhf.language.objectives.policy_gradient import PolicyGradient


@dataclass(frozen=True, kw_only=True)
class RLHF(PolicyGradient):
    """The policy gradient of r(y) - tau KL(pi, mu).

    Source: Munos et al. 2023 (arXiv 2312.00886), section 2.
    """

    name = "rlhf"
    needs_reward = True

    def plan(self, step: int) -> Plan:
        return Plan((Draw(self.samples),), asks="reward", full=self.kl == "full")
