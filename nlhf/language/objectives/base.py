"""The interface of an objective: what a step samples, its loss, and the policies it keeps.

A loss is a function of answers, their log-probabilities and their payoffs. The trainer samples,
judges and scores what the objective's plan specifies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from nlhf.algorithms.base import Schedule
from nlhf.errors import InputError
from nlhf.language.prompts import Prompt
from nlhf.schedules import schedule

Parameters = Mapping[str, Tensor]
"""The trainable parameters of a policy, by name."""
Held = dict[str, dict[str, Tensor]]
"""Parameters of the held policies (copies that the objective keeps), by name."""
POLICY = "policy"
MIXTURE = "mixture"


def constant(value: float) -> Schedule:
    """A schedule with the same value at every step."""
    return schedule("constant", value, value, 1)


@dataclass(frozen=True)
class Draw:
    """Answers drawn from one policy for each prompt.

    Attributes:
        count: number of answers per prompt, >= 0.
        policy: POLICY, MIXTURE, or the name of a held policy.
        weight: weight of the reference in the mixture; 1 is the reference itself.
    """

    count: int
    policy: str = POLICY
    weight: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a step samples, judges and scores.

    Attributes:
        scored: the answers that the loss uses, N in total.
        opponents: answers that are only compared with the scored ones. Cuts act on them.
        asks: "opponents" (P of each answer against each opponent), "pairs" (P between the answers)
            or "reward" (one scalar per answer).
        held: held policies that also score the answers.
        full: compute divergences of whole distributions, with their gradient.
        follow: maps a prompt and an answer to the follower's prompt; its `followers` answers are
            then the opponents, and are scored as well.
    """

    scored: tuple[Draw, ...]
    opponents: tuple[Draw, ...] = ()
    asks: Literal["opponents", "pairs", "reward"] = "opponents"
    held: tuple[str, ...] = ()
    full: bool = False
    follow: Callable[[Prompt, str], Prompt] | None = None
    followers: int = 1


@dataclass(frozen=True)
class Sampled:
    """Sampled answers with their scores and judgements.

    Attributes:
        log_pi, log_mu: log-probabilities of the tokens, [B, N, T].
        mask: which tokens count, [B, N, T].
        reward: payoff of an answer, [B, N]: its mean probability of being preferred to the
            opponent's answers, or its scalar reward.
        divergence: KL(pi || mu) of the whole distribution at each token's prefix, with its
            gradient, [B, N, T]; only if the plan requests it with `full`.
        value: prediction of the learned baseline from each prefix on, [B, N, T]; or None.
        preference: P(answer i > opponent j), [B, N, M], or between the answers, [B, N, N]; None
            where the plan asks for rewards.
        held: log-probabilities under each of the plan's held policies, [B, N, T].
        follower: the follower's answers, [B N, followers, T], with reward P(follower > leader).
    """

    log_pi: Tensor
    log_mu: Tensor
    mask: Tensor
    reward: Tensor
    divergence: Tensor | None = None
    value: Tensor | None = None
    preference: Tensor | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)
    follower: Sampled | None = None

    def total(self, log: Tensor) -> Tensor:
        """The log-probability of each answer, [B, N]."""
        return (log * self.mask).sum(-1)


class Estimator(Protocol):
    """What an objective that looks ahead needs from the trainer."""

    def estimate(
        self, plan: Plan, held: Mapping[str, Parameters] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Sample answers as planned; return the loss's updates and measures on them."""
        ...

    def ahead(self, updates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the parameters that a step along the updates would give."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Defines whose gradient a training step estimates.

    Attributes:
        tau: weight of KL(pi, mu) by step, > 0.
        samples: number of answers per prompt that the loss uses, >= 1.
    """

    name: ClassVar[str]
    needs_reward: ClassVar[bool] = False
    """Whether answers earn a scalar reward instead of a preference."""
    reads_tau: ClassVar[bool] = True
    """Whether the loss depends on tau; otherwise it solves the unregularised game."""
    reads_cuts: ClassVar[bool] = False
    """Whether cuts act on some answers: on opponents, or on answers of the mixture."""
    moves_reference: ClassVar[int] = 0
    """Default number of steps after which the reference is replaced by the policy; 0: never."""
    tau: Schedule
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples={self.samples} must be at least 1 answer a prompt")

    @abstractmethod
    def plan(self, step: int) -> Plan:
        """What a step samples, judges and scores."""

    @abstractmethod
    def loss(self, sampled: Sampled, step: int) -> Tensor:
        """A scalar whose gradient is, in expectation, minus the true gradient."""

    def start(self, now: Parameters) -> Held:
        """The held policies at the start: copies of the current policy."""
        return {}

    def after(self, held: Held, now: Parameters, step: int) -> None:
        """Update the held policies after `step` steps."""
        assert not held, f"{self.name} holds on to policies that nothing moves"

    def updates(
        self, estimator: Estimator, step: int
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Estimates of minus the gradient, and the measures of the step."""
        return estimator.estimate(self.plan(step))

    def needs(self, answers: int, why: str) -> None:
        """Raise if there are fewer answers per prompt."""
        if self.samples < answers:
            raise InputError(
                f"samples={self.samples}: {why} needs {answers} or more answers a prompt"
            )


def copied(now: Parameters) -> dict[str, Tensor]:
    """A copy of a policy's current parameters."""
    return {name: parameter.detach().clone() for name, parameter in now.items()}


def divergence(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """KL(pi || mu) of whole distributions [..., V], with its gradient in log_pi, [...]."""
    p = log_pi.exp()
    # a token that pi cannot produce has log pi = -inf and contributes nothing
    return (p * torch.where(p > 0, log_pi - log_mu, 0.0)).sum(-1)


def pair_regression(
    h: Tensor, preference: Tensor, step: float, weight: Tensor | None = None
) -> Tensor:
    """1/(4 s) times the mean over pairs of (h(y) - h(y') - s (P(y > y') - 1/2))^2.

    With y, y' ~ q the minimum is at h = s P(. > q) + const, h = log pi - log base: one step of
    mirror descent from the base. The prefactor is chosen such that, where pi is the base, the
    expected gradient is the policy gradient of P(pi > q) at pi = q.

    Args:
        h: [B, N], of answers drawn independently.
        preference: P(y_i > y_j), [B, N, N]; the diagonal is ignored.
        step: s > 0.
        weight: weights of the pairs i < j, [N, N], with sum 1; uniform if None.

    Source: Azar et al. 2023 (arXiv 2310.12036), equation 17, for any base.
    """
    n = h.shape[1]
    gap = h[:, :, None] - h[:, None, :] - step * (preference - 0.5)
    upper = torch.ones(n, n, dtype=torch.bool, device=h.device).triu(1)
    squares = gap[:, upper].square()
    if weight is not None:
        squares = squares * weight[upper] * upper.sum()
    return 0.25 / step * squares.mean()
