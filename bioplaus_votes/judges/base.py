"""The interface of a judge, which compares two answers in a context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bridge.errors import InputError

OFF = 1e-4
"""Tolerance on P(a > b) + P(b > a) = 1, for float32 rounding."""


class AbstractJudge(ABC):
    """P(y > y' | x) between K answers, in contexts given by an index, an input, or both.

    A judge that knows its probabilities implements `table`. One that can only be asked implements
    `vote`; everything that needs the whole game (exact directions, exploitability) is then
    unavailable.

    Attributes:
        name: name in messages and logs.
        answers: names of the K answers.
        contexts: names of the indexed contexts; empty if only the input matters.
    """

    name: str
    answers: tuple[str, ...]
    contexts: tuple[str, ...] = ()
    by_context: bool = True
    """Whether the index determines a context; otherwise each input has its own game."""
    has_table: bool = True

    def table(self, context: Tensor, x: Tensor) -> Tensor:
        """P(y > y' | x) of each row, [B, K, K], P + P^T = 1.

        Args:
            context: indices of the contexts, [B].
            x: inputs, one per row.
        """
        raise InputError(
            f"judge {self.name} casts votes and has no table of probabilities; give votes=N > 0"
        )

    @abstractmethod
    def vote(
        self, context: Tensor, x: Tensor, first: Tensor, second: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Ask which answer is preferred: 1 for first, 0 for second, 1/2 for a tie; [B, N], floats.

        Args:
            context: indices of the contexts, [B].
            x: inputs, one per row.
            first, second: answers, [B, N].
            generator: random generator of the judge.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.answers)} answers)"


class AbstractTableJudge(AbstractJudge):
    """A judge with known probabilities, from which votes are drawn."""

    @abstractmethod
    def table(self, context: Tensor, x: Tensor) -> Tensor:
        """P(y > y' | x) of each row, [B, K, K]."""

    def vote(
        self, context: Tensor, x: Tensor, first: Tensor, second: Tensor, generator: torch.Generator
    ) -> Tensor:
        P = self.table(context, x)
        rows = torch.arange(len(first), device=first.device)[:, None]
        return torch.bernoulli(P[rows, first, second], generator=generator)


def require_fair(P: Tensor, subject: str, names: Sequence[str] = ()) -> None:
    """Raise if tables [G, K, K] hold no preferences.

    Args:
        P: the tables.
        subject: their source, which starts the message.
        names: names of the G games.

    Raises:
        InputError: not square, NaN, not between 0 and 1, or not antisymmetric about 1/2.
    """
    if P.ndim != 3 or P.shape[-1] != P.shape[-2] or P.shape[-1] < 2:
        raise InputError(
            f"{subject} gave shape {list(P.shape)}; give [contexts, K, K], K >= 2 answers: "
            "P(row preferred to column)"
        )
    if not bool(torch.isfinite(P).all()):
        raise InputError(f"{subject} has NaN or infinite entries; give probabilities from 0 to 1")
    low, high = float(P.min()), float(P.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{subject} has entries from {low:g} to {high:g}; give numbers from 0 to 1"
        )
    off = (P + P.mT - 1).abs()
    if float(off.max()) > OFF:
        at = int(off.argmax())
        k = P.shape[-1]
        game, a, b = at // (k * k), at // k % k, at % k
        where = names[game] if names else game
        raise InputError(
            f"{subject} is not antisymmetric: in context {where}, P({a} > {b}) = "
            f"{float(P[game, a, b]):g} and P({b} > {a}) = {float(P[game, b, a]):g} do not sum to 1;"
            " symmetrise it: give (P + 1 - P^T) / 2, or --set symmetrise=true (symmetrise=True)"
        )


def symmetrised(P: Tensor) -> Tensor:
    """(P + 1 - P^T) / 2, which averages both orders of each pair."""
    return 0.5 * (P + 1 - P.mT)
