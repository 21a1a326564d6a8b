"""What is learnt, as losses whose gradients estimate minus the true gradient; THE sum over tokens.

Throughout, B prompts with n answers of at most T tokens each: `log_pi` [B, n, T] carries the
gradient, zero after an answer's end; `tau` is the weight of KL(pi, mu).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nlhf.algorithms.base import Schedule
from nlhf.errors import InputError
from nlhf.schedules import schedule

Opponent = Literal["mixture", "average", "ahead", "reward", "pairs"]
OPPONENTS: dict[str, Opponent] = {
    "nash-md": "mixture",
    "nash-ema": "average",
    "self-play": "mixture",
    "best-response": "mixture",
    "extragradient": "ahead",
    "rlhf": "reward",
    "online-ipo": "pairs",
}
"""Whom the policy's answers are compared with, by objective."""
FIXED_MIXTURE = {"self-play": 0.0, "best-response": 1.0}
KLS = ("reward-to-go", "full")
BASELINES = ("half", "leave-one-out", "learned")


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return schedule("constant", value, value, 1)


@dataclass(frozen=True)
class Objective:
    """What a step of training estimates the gradient of.

    Attributes:
        name: nash-md (opponent: the mixture with the reference), nash-ema (an exponential moving
            average of the policy), self-play (mixture weight 0), best-response (weight 1),
            extragradient (the policy after a step of self-play), rlhf (a scalar reward),
            online-ipo (all pairs of `samples` answers of the mixture).
        tau: weight of KL(pi, mu) by step, > 0.
        mixture: weight of the reference in the opponent by step, in [0, 1].
        samples: answers of the policy a prompt, >= 1.
        opponents: answers of the opponent a prompt, >= 1.
        kl: "reward-to-go" multiplies a token's score by the log-ratios of this and all later
            tokens; "full" takes the divergences of whole distributions, with less variance.
        baseline: "half" (1/2; 0 for rewards), "leave-one-out" (the other answers' mean) or
            "learned" (from the policy's hidden states).
        ema_rate: a in average <- (1 - a) average + a policy.
    """

    name: str
    tau: Schedule
    mixture: Schedule
    samples: int = 2
    opponents: int = 1
    kl: str = "reward-to-go"
    baseline: str = "leave-one-out"
    ema_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in OPPONENTS:
            raise InputError(
                f"algorithm={self.name!r} is unknown for a language model; use one of "
                f"{', '.join(OPPONENTS)}"
            )
        if self.kl not in KLS:
            raise InputError(f"kl={self.kl!r} is unknown; use one of {', '.join(KLS)}")
        if self.baseline not in BASELINES:
            legal = ", ".join(BASELINES)
            raise InputError(f"baseline={self.baseline!r} is unknown; use one of {legal}")
        if self.samples < 2 and (self.baseline == "leave-one-out" or self.opponent == "pairs"):
            why = "online-ipo" if self.opponent == "pairs" else "a leave-one-out baseline"
            raise InputError(f"samples={self.samples}: {why} needs 2 or more answers a prompt")

    @property
    def opponent(self) -> Opponent:
        """Whom the policy's answers are compared with."""
        return OPPONENTS[self.name]

    def weight(self, step: int) -> float:
        """The reference's share in the opponent at a step."""
        return FIXED_MIXTURE.get(self.name, self.mixture(step))


@dataclass(frozen=True)
class Sampled:
    """Answers, scored and judged.

    Attributes:
        log_pi, log_mu: log-probabilities of the tokens, [B, n, T].
        mask: which tokens count, [B, n, T].
        reward: what an answer earns: its mean probability to be preferred to the opponent's
            answers, or its scalar reward, [B, n].
        divergence: KL(pi || mu) of the whole distribution at each token's prefix, with its
            gradient, [B, n, T]; only for kl="full".
        value: what the learned baseline expects from each prefix on, [B, n, T]; or None.
    """

    log_pi: Tensor
    log_mu: Tensor
    mask: Tensor
    reward: Tensor
    divergence: Tensor | None = None
    value: Tensor | None = None


def policy_gradient_loss(sampled: Sampled, tau: float, baseline: str, middle: float) -> Tensor:
    """Minus the mean of sum_t log pi(y_t | y_<t) (G_t - b), with nothing else carrying a gradient.

    G_t = P(y > y') - tau sum_{s >= t} log(pi/mu)(y_s | y_<s). The gradient's mean is that of
    P(pi > pi') - tau KL(pi, mu) with pi' held fixed. With a divergence D_s of whole distributions,
    G_t = P(y > y') - tau sum_{s > t} D_s, and tau sum_s D_s, whose own gradient counts, is added to
    the loss: leaving out either is biased, as it is to give a token its own log-ratio only.

    Args:
        sampled: answers y ~ pi.
        tau: > 0.
        baseline: one of BASELINES.
        middle: b of the baseline "half".

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7; the sum over later tokens is that of
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
    """G_t, what a learned baseline predicts, [B, n, T]; see `policy_gradient_loss`."""
    return (sampled.reward[..., None] - _costs(sampled, tau)[1]).detach()


def _costs(sampled: Sampled, tau: float) -> tuple[Tensor, Tensor]:
    """What each token costs, and what the tokens cost on which a token's score has a say."""
    if sampled.divergence is not None:
        cost = tau * sampled.divergence * sampled.mask
        fixed = cost.detach()
        return cost, _to_go(fixed) - fixed
    cost = tau * ((sampled.log_pi - sampled.log_mu) * sampled.mask).detach()
    return cost, _to_go(cost)


def _to_go(cost: Tensor) -> Tensor:
    """sum_{s >= t} cost_s, [..., T]."""
    return cost.flip(-1).cumsum(-1).flip(-1)


def ipo_loss(sampled: Sampled, preference: Tensor, tau: float) -> Tensor:
    """tau/4 times the mean over pairs of (h(y) - h(y') - (P(y > y') - 1/2) / tau)^2.

    h = sum_t log(pi/mu)(y_t | y_<t). With y, y' ~ pi the gradient's mean is that of self-play's
    policy gradient, which is what the factor tau/4 is for. With y, y' from a mixture this is
    IPO-MD.

    Args:
        sampled: n >= 2 answers a prompt, drawn independently.
        preference: P(y_i > y_j), [B, n, n]; the diagonal is not looked at.
        tau: > 0.

    Source: Calandriello et al. 2024 (arXiv 2403.08635), section 4.
    """
    h = ((sampled.log_pi - sampled.log_mu) * sampled.mask).sum(-1)
    gap = h[:, :, None] - h[:, None, :] - (preference - 0.5) / tau
    n = h.shape[1]
    upper = torch.ones(n, n, dtype=torch.bool, device=h.device).triu(1)
    return 0.25 * tau * gap[:, upper].square().mean()


def value_loss(value: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared error of a learned baseline over the answers' tokens."""
    return 0.5 * ((value - target).square() * mask).sum() / mask.sum().clamp_min(1)


def divergence(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """KL(pi || mu) of whole distributions [..., V], with its gradient in log_pi, [...]."""
    p = log_pi.exp()
    # a token that pi cannot give has log pi = -inf and no share
    return (p * torch.where(p > 0, log_pi - log_mu, 0.0)).sum(-1)
