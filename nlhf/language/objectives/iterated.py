"""Base of methods that fit a sequence of policies: pi_t is fixed while pi_{t+1} is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.objectives.base import (
    POLICY,
    Draw,
    Held,
    Objective,
    Parameters,
    Plan,
    Sampled,
    copied,
    pair_regression,
)

ANCHOR = "anchor"


@dataclass(frozen=True, kw_only=True)
class Iterated(Objective):
    """pi_{t+1} = argmin of a loss over pairs of answers of pi_t, in `anchor_every` gradient steps.

    Attributes:
        eta: step size of mirror descent, > 0; several papers use its inverse.
        anchor_every: number of gradient steps for which pi_t stays fixed, >= 1. With 1, pi_t is
            always the current policy, and the gradient of the loss is a policy gradient.
    """

    eta: float = 1.0
    anchor_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs(2, self.name)
        if not self.eta > 0:
            raise InputError(f"eta={self.eta:g} must be positive")
        if self.anchor_every < 1:
            raise InputError(f"anchor_every={self.anchor_every} must be at least 1 step")

    @property
    def holds(self) -> tuple[str, ...]:
        """The policies, besides pi and mu, that score the answers."""
        return (ANCHOR,) if self.anchor_every > 1 else ()

    def plan(self, step: int) -> Plan:
        return Plan((self.drawn(self.samples),), asks="pairs", held=self.holds)

    def drawn(self, count: int) -> Draw:
        """Answers of pi_t."""
        return Draw(count, ANCHOR if self.anchor_every > 1 else POLICY)

    def start(self, now: Parameters) -> Held:
        return {name: copied(now) for name in self.holds}

    def after(self, held: Held, now: Parameters, step: int) -> None:
        if self.anchor_every > 1 and step % self.anchor_every == 0:
            held[ANCHOR] = copied(now)

    def anchored(self, sampled: Sampled, name: str = ANCHOR) -> Tensor:
        """log pi_t of the answers, [B, N]."""
        log = sampled.held[name] if name in sampled.held else sampled.log_pi.detach()
        return sampled.total(log)


def regress(sampled: Sampled, base: Tensor, step: float) -> Tensor:
    """`pair_regression` of log pi - base, [B, N], on the preferences between the answers."""
    assert sampled.preference is not None
    return pair_regression(sampled.total(sampled.log_pi) - base, sampled.preference, step)


@dataclass(frozen=True, kw_only=True)
class TwoPhases(Iterated):
    """Methods that fit two policies in turn, with `anchor_every` gradient steps each."""

    anchor_every: int = 10

    def first(self, step: int) -> bool:
        """Whether a step belongs to the first phase."""
        return step // self.anchor_every % 2 == 0

    def ends(self, step: int) -> bool:
        """Whether a phase ends after `step` steps."""
        return step % self.anchor_every == 0
