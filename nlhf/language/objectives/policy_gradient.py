"""The policy gradient shared by most objectives, including its sum over tokens."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.objectives.base import Draw, Objective, Plan, Sampled

KLS = ("reward-to-go", "full")
"""How the divergence from the reference enters a token's score."""
BASELINES = ("half", "leave-one-out", "learned")
"""Baselines that can be subtracted from an answer's score."""


def policy_gradient_loss(sampled: Sampled, tau: float, baseline: str, middle: float) -> Tensor:
    """Minus the mean of sum_t log pi(y_t | y_<t) (G_t - b), with gradients only through log pi.

    G_t = P(y > y') - tau sum_{s >= t} log(pi/mu)(y_s | y_<s). The expected gradient is that of
    P(pi > pi') - tau KL(pi, mu) with pi' held fixed. With divergences D_s of whole distributions,
    G_t = P(y > y') - tau sum_{s > t} D_s, and tau sum_s D_s with its own gradient is added to the
    loss. Omitting either term would bias the gradient, and so would giving each token only its own
    log-ratio.

    Args:
        sampled: answers y ~ pi.
        tau: > 0.
        baseline: one of BASELINES.
        middle: b of the baseline "half".

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7; the sum over later tokens follows
        Williams 1992.
    """
    cost, later = _costs(sampled, tau)
    gain = sampled.reward[..., None] - later
    if baseline == "learned":
        assert sampled.value is not None
        gain = gain - sampled.value
    elif baseline == "leave-one-out":
        whole = (sampled.reward - cost.sum(-1)).detach()
        n = whole.shape[1]
        gain = gain - ((whole.sum(1, keepdim=True) - whole) / (n - 1))[..., None]
    else:
        gain = gain - middle
    score = (sampled.mask * sampled.log_pi * gain.detach()).sum(-1).mean()
    own = 0.0 if sampled.divergence is None else (sampled.mask * cost).sum(-1).mean()
    return own - score


def returns(sampled: Sampled, tau: float) -> Tensor:
    """G_t, the target of a learned baseline, [B, n, T]; see `policy_gradient_loss`."""
    return (sampled.reward[..., None] - _costs(sampled, tau)[1]).detach()


def _costs(sampled: Sampled, tau: float) -> tuple[Tensor, Tensor]:
    """The KL cost of each token, and the part of the costs that a token's score can influence."""
    if sampled.divergence is not None:
        cost = tau * sampled.divergence * sampled.mask
        fixed = cost.detach()
        return cost, _to_go(fixed) - fixed
    cost = tau * ((sampled.log_pi - sampled.log_mu) * sampled.mask).detach()
    return cost, _to_go(cost)


def _to_go(cost: Tensor) -> Tensor:
    """sum_{s >= t} cost_s, [..., T]."""
    return cost.flip(-1).cumsum(-1).flip(-1)


def value_loss(value: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared error of a learned baseline over the answers' tokens."""
    return 0.5 * ((value - target).square() * mask).sum() / mask.sum().clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(Objective):
    """The policy gradient of the payoff of the policy's own answers.

    Attributes:
        kl: "reward-to-go" multiplies a token's score by the log-ratios of this and all later
            tokens; "full" takes the divergences of whole distributions, with less variance.
        baseline: "half" (1/2; 0 for rewards), "leave-one-out" (the other answers' mean) or
            "learned" (from the policy's hidden states).
    """

    kl: str = "reward-to-go"
    baseline: str = "leave-one-out"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl not in KLS:
            raise InputError(f"kl={self.kl!r} is unknown; use one of {', '.join(KLS)}")
        if self.baseline not in BASELINES:
            legal = ", ".join(BASELINES)
            raise InputError(f"baseline={self.baseline!r} is unknown; use one of {legal}")
        if self.baseline == "leave-one-out":
            self.needs(2, "a leave-one-out baseline")

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        middle = 0.0 if self.needs_reward else 0.5
        return policy_gradient_loss(sampled, self.tau(step), self.baseline, middle)


@dataclass(frozen=True, kw_only=True)
class Opposed(PolicyGradient):
    """The policy gradient of P(pi > pi') - tau KL(pi, mu), the opponent pi' held fixed.

    Attributes:
        opponents: answers of the opponent a prompt, >= 1.
    """

    reads_cuts = True
    opponents: int = 1

    @abstractmethod
    def opponent(self, step: int) -> Draw:
        """The policy that the answers are compared with."""

    def plan(self, step: int) -> Plan:
        own = (Draw(self.samples),)
        return Plan(own, (self.opponent(step),), full=self.kl == "full")
