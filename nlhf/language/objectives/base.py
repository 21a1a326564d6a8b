"""The interface of an objective: what a step samples, its loss, and which policies it holds on to.

A loss is a function of answers, their log-probabilities and what they earned; the trainer samples,
asks and scores what the objective's plan says.
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
"""Parameters of policies that are held on to, by what they are called."""
POLICY = "policy"
MIXTURE = "mixture"


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return schedule("constant", value, value, 1)


@dataclass(frozen=True)
class Draw:
    """Answers to each prompt of one policy.

    Attributes:
        count: how many, >= 0.
        policy: POLICY, MIXTURE, or the name of one that is held on to.
        weight: of the reference in the mixture; 1 is the reference itself.
    """

    count: int
    policy: str = POLICY
    weight: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a step samples, asks and scores.

    Attributes:
        scored: the answers of which the loss is a function, N in all.
        opponents: answers with which these are compared, and no more.
        asks: "opponents" (P of each answer against each opponent), "pairs" (P between the answers)
            or "reward" (a scalar each).
        held: policies that the answers are scored by too.
        full: give the divergences of whole distributions, with their gradient.
        follow: makes of a prompt and an answer the prompt that a follower is asked; its `followers`
            answers are then the opponents, and are scored as well.
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
    """Answers, scored and judged.

    Attributes:
        log_pi, log_mu: log-probabilities of the tokens, [B, N, T].
        mask: which tokens count, [B, N, T].
        reward: what an answer earns: its mean probability to be preferred to the opponent's
            answers, or its scalar reward, [B, N].
        divergence: KL(pi || mu) of the whole distribution at each token's prefix, with its
            gradient, [B, N, T]; where the plan wants it in full.
        value: what the learned baseline expects from each prefix on, [B, N, T]; or None.
        preference: P(answer i > opponent j), [B, N, M], or between the answers, [B, N, N]; None
            where rewards were asked.
        held: log-probabilities under the plan's held policies, [B, N, T] each.
        follower: the follower's answers, [B N, followers, T], its reward P(follower > leader).
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
    """What an objective that looks ahead asks of the trainer."""

    def estimate(
        self, plan: Plan, held: Mapping[str, Parameters] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Sample answers as planned, and give the updates and the measures of the loss on them."""
        ...

    def ahead(self, updates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the parameters as a step along the updates would leave them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """What a step of training estimates the gradient of.

    Attributes:
        tau: weight of KL(pi, mu) by step, > 0.
        samples: answers a prompt that the loss is a function of, >= 1.
    """

    name: ClassVar[str]
    needs_reward: ClassVar[bool] = False
    """Whether answers earn a scalar reward in place of a preference."""
    reads_tau: ClassVar[bool] = True
    """Whether the loss depends on tau; else the game without regularisation is solved."""
    moves_reference: ClassVar[int] = 0
    """Steps after which the reference becomes the policy where nothing else is said; 0: never."""
    tau: Schedule
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples={self.samples} must be at least 1 answer a prompt")

    @abstractmethod
    def plan(self, step: int) -> Plan:
        """What a step samples, asks and scores."""

    @abstractmethod
    def loss(self, sampled: Sampled, step: int) -> Tensor:
        """A number whose gradient's mean is minus the true gradient."""

    def start(self, now: Parameters) -> Held:
        """The policies that are held on to at the start: copies of this one."""
        return {}

    def after(self, held: Held, now: Parameters, step: int) -> None:
        """Let the held policies follow when `step` steps are done."""
        assert not held, f"{self.name} holds on to policies that nothing moves"

    def updates(
        self, estimator: Estimator, step: int
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Estimates of minus the gradient, and the step's measures."""
        return estimator.estimate(self.plan(step))

    def needs(self, answers: int, why: str) -> None:
        """Refuse fewer answers a prompt."""
        if self.samples < answers:
            raise InputError(
                f"samples={self.samples}: {why} needs {answers} or more answers a prompt"
            )


def copied(now: Parameters) -> dict[str, Tensor]:
    """A policy's parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in now.items()}


def divergence(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """KL(pi || mu) of whole distributions [..., V], with its gradient in log_pi, [...]."""
    p = log_pi.exp()
    # a token that pi cannot give has log pi = -inf and no share
    return (p * torch.where(p > 0, log_pi - log_mu, 0.0)).sum(-1)


def pair_regression(
    h: Tensor, preference: Tensor, step: float, weight: Tensor | None = None
) -> Tensor:
    """1/(4 s) times the mean over pairs of (h(y) - h(y') - s (P(y > y') - 1/2))^2.

    With y, y' ~ q its least value is at h = s P(. > q) + const, h = log pi - log base: one step of
    mirror descent from the base. Where pi is the base, the gradient's mean is that of the policy
    gradient of P(pi > q) at pi = q, which is what the factor is for.

    Args:
        h: [B, N], of answers drawn independently.
        preference: P(y_i > y_j), [B, N, N]; the diagonal is not looked at.
        step: s > 0.
        weight: of the pairs i < j, [N, N], their sum 1; the mean if None.

    Source: Azar et al. 2023 (arXiv 2310.12036), equation 17, for any base.
    """
    n = h.shape[1]
    gap = h[:, :, None] - h[:, None, :] - step * (preference - 0.5)
    upper = torch.ones(n, n, dtype=torch.bool, device=h.device).triu(1)
    squares = gap[:, upper].square()
    if weight is not None:
        squares = squares * weight[upper] * upper.sum()
    return 0.25 / step * squares.mean()
