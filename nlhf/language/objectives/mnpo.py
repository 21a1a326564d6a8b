"""MNPO: several players; the opponents are recent policies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.objectives.base import (
    Draw,
    Held,
    Parameters,
    Plan,
    Sampled,
    copied,
    pair_regression,
)
from nlhf.language.objectives.iterated import Iterated


@dataclass(frozen=True, kw_only=True)
class MNPO(Iterated):
    """1/(4 eta) E_{y, y' ~ q} (h(y) - h(y') - eta (P(y > y') - 1/2))^2, with
    h = log pi - 1/(n-1) sum_j log pi_{t-j} and q the even mixture of pi_t, ..., pi_{t-n+2}.

    `samples` answers are drawn from each opponent. There is no regularisation. The paper draws both
    answers from pi_t alone; with the mixture, the gradient at pi = pi_t is that of its update.

    Attributes:
        players: number n of players, >= 2; with two, the loss is that of INPO without a reference.

    Source: Wu et al. 2025 (arXiv 2509.23102v1), equations 11 and 16, section 3.2 (time-dependent,
    even weights).
    """

    name = "mnpo"
    reads_tau = False
    anchor_every: int = 10
    players: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.players < 2:
            raise InputError(f"players={self.players} must be at least 2")

    @property
    def holds(self) -> tuple[str, ...]:
        return tuple(f"past-{j}" for j in range(self.players - 1))

    def plan(self, step: int) -> Plan:
        draws = tuple(Draw(self.samples, name) for name in self.holds)
        return Plan(draws, asks="pairs", held=self.holds)

    def after(self, held: Held, now: Parameters, step: int) -> None:
        if step % self.anchor_every == 0:
            names = self.holds
            for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
                held[older] = held[newer]
            held[names[0]] = copied(now)

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        assert sampled.preference is not None
        logs = torch.stack([sampled.total(sampled.held[name]) for name in self.holds])
        h = sampled.total(sampled.log_pi) - logs.mean(0)
        return pair_regression(h, sampled.preference, self.eta, self._weights(h))

    def _weights(self, h: Tensor) -> Tensor:
        """Weights of the pairs, [N, N], as if both answers came from the mixture."""
        count, n = self.players - 1, self.samples
        of = torch.arange(count, device=h.device).repeat_interleave(n)
        same = of[:, None] == of[None]
        # pairs i < j: n (n - 1) / 2 within one opponent; n^2 across two, which count in both orders
        weight = torch.where(same, 2 / (n * (n - 1)), 2 / n**2) / count**2
        return weight.to(h.dtype)
