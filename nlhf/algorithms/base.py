"""The interface of an algorithm for preference games: init, step -> state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.mixture import mixed
from nlhf.regularised_game import winning

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Votes:
    """Noisy feedback: P(y > opponent) is the share of wins among `count` votes per action.

    Attributes:
        count: votes per action and step, >= 1.
        generators: random generators of the votes. Several serve the slices of dimension -3 of the
            feedback [..., S, G, K], one per seed, so one seed's votes do not depend on the others.
    """

    count: int
    generators: tuple[torch.Generator, ...]

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"votes={self.count} must be at least 1 a step")


@dataclass(frozen=True)
class Problem:
    """Games in one batch.

    Attributes:
        P: [..., K, K], P(i > j); games [G, K, K] work with any number of policies [..., G, K].
        log_mu: the references, broadcast against [..., K].
        tau: the regularisation, [...].
        votes: None for exact feedback.
    """

    P: Tensor
    log_mu: Tensor
    tau: Tensor
    votes: Votes | None = None

    def feedback(self, log_other: Tensor) -> Tensor:
        """P(y > opponent) for every action y, exact or estimated from votes, [..., K]."""
        exact = winning(self.P, log_other)
        if self.votes is None:
            return exact
        generators = self.votes.generators
        slices = (exact,) if len(generators) == 1 else exact.unbind(-3)
        wins = [
            torch.binomial(
                torch.full_like(p, float(self.votes.count)), p.clamp(0, 1), generator=generator
            )
            for p, generator in zip(slices, generators, strict=True)
        ]
        total = wins[0] if len(generators) == 1 else torch.stack(wins, -3)
        return total / self.votes.count


@dataclass(frozen=True)
class State:
    """The state of an algorithm.

    Attributes:
        log_pi: its policy, [..., K].
        step: number of steps done.
        memory: further tensors of the algorithm, by name.
    """

    log_pi: Tensor
    step: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class AbstractAlgorithm(ABC):
    """One method; its parameters are the fields of a frozen dataclass."""

    name: ClassVar[str]
    mixes: ClassVar[bool] = False
    """Whether a step starts from the mixture with weight eta tau on the reference."""
    asks: ClassVar[bool] = True
    """Whether a step asks for feedback, exact or by votes; otherwise it reads the whole game."""
    solves: ClassVar[Literal["regularised", "plain", "other"]] = "regularised"
    """What the method converges to: the equilibrium of P_tau, an unregularised one, or neither."""
    reads_tau: ClassVar[bool] = True
    """Whether a step depends on tau."""

    def init(self, problem: Problem) -> State:
        """The initial state: the reference policy.

        Raises:
            InputError: a constant eta with eta tau > 1, where the method mixes with the reference.
        """
        eta = getattr(self, "eta", None)
        largest = float(problem.tau.max())
        if self.mixes and isinstance(eta, float) and not eta * largest <= 1:
            raise InputError(
                f"eta={eta:g} with tau={largest:g}: {self.name} mixes with weight eta tau, which "
                "must not exceed 1; use a smaller eta"
            )
        games = torch.broadcast_shapes(problem.P.shape[:-2], problem.tau.shape)
        shape = torch.broadcast_shapes((*games, problem.P.shape[-1]), problem.log_mu.shape)
        return State(problem.log_mu.expand(shape).clone())

    @abstractmethod
    def step(self, problem: Problem, state: State) -> State:
        """Take one step of the method."""


def theorem_rate(tau: Tensor, step: int) -> Tensor:
    """eta_t = 2 / (tau (t + 2)), t = 0, 1, ...

    Source: Munos et al. 2023 (arXiv 2312.00886), theorem 1.
    """
    return 2.0 / (tau * (step + 2))


def capped(largest: float, tau: Tensor) -> Tensor:
    """min(largest, 1 / (2 tau)): a default rate whose mixture keeps half of the policy."""
    return (0.5 / tau).clamp_max(largest)


def rate_at(
    eta: float | Schedule | None, tau: Tensor, step: int, largest: float | None = None
) -> Tensor:
    """eta_t as a tensor like tau: constant, a function of t, or the default (None).

    The default is the theorem's, or with `largest` a constant, see `capped`.

    Raises:
        InputError: a rate that is not positive.
    """
    if eta is None:
        return theorem_rate(tau, step) if largest is None else capped(largest, tau)
    now = eta(step) if callable(eta) else eta
    if not now > 0:
        raise InputError(f"eta={now} must be positive")
    return torch.full_like(tau, now)


def toward_reference(problem: Problem, log_pi: Tensor, eta: Tensor) -> Tensor:
    """The mixture pi^(1 - eta tau) mu^(eta tau) as log-probabilities, [..., K]."""
    return mixed(log_pi, problem.log_mu, eta * problem.tau)


def ascend(log_base: Tensor, gain: Tensor, eta: Tensor) -> Tensor:
    """log of base * exp(eta gain), normalised, [..., K]: one mirror step under the entropy."""
    return torch.log_softmax(log_base + eta[..., None] * gain, -1)


def proximal(problem: Problem, log_pi: Tensor, gain: Tensor, eta: Tensor) -> Tensor:
    """argmax_p eta <gain, p> - eta tau KL(p, mu) - KL(p, pi), as log-probabilities, [..., K]."""
    pull = (eta * problem.tau)[..., None]
    reference = torch.where(pull > 0, pull * problem.log_mu, 0.0)
    return torch.log_softmax((log_pi + reference + eta[..., None] * gain) / (1 + pull), -1)
