"""Judges defined by a user's function of contexts, of inputs, or of two answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bioplaus_votes.judges.base import (
    AbstractJudge,
    AbstractTableJudge,
    require_fair,
    symmetrised,
)
from bioplaus_votes.judges.tables import TableJudge
from bridge.errors import InputError
from bridge.usercode import running

OF_INPUTS = ("x", "inputs", "images", "input", "image")
"""Names of a parameter that receives the inputs."""
ASKED = 4000
"""Number of votes cast to test whether a judge favours the answer shown first."""


class InputJudge(AbstractTableJudge):
    """P(y > y' | x) from a function of the inputs: each input has its own game."""

    by_context = False

    def __init__(
        self, function: Callable[[Tensor], Tensor], answers: Sequence[str], name: str, fair: bool
    ) -> None:
        """Take f(x) -> [B, K, K]; `fair` requests symmetrisation."""
        self.function, self.answers, self.name, self._fair = function, tuple(answers), name, fair

    def table(self, context: Tensor, x: Tensor) -> Tensor:
        P = _as_tensor(self.function(x), f"judge {self.name}").to(x)
        if self._fair and P.ndim == 3:
            P = symmetrised(P)
        if P.shape != (len(x), len(self.answers), len(self.answers)):
            k = len(self.answers)
            raise InputError(
                f"judge {self.name} gave shape {list(P.shape)} for {len(x)} inputs; it must give "
                f"[{len(x)}, {k}, {k}]"
            )
        require_fair(P, f"judge {self.name}")
        return P


class VoteJudge(AbstractJudge):
    """A judge that can only be asked: f(context, first, second) -> 1, 0 or 1/2 per pair."""

    has_table = False

    def __init__(
        self,
        function: Callable[..., Any],
        answers: Sequence[str],
        contexts: Sequence[str] = (),
        name: str = "votes",
    ) -> None:
        """Take the function; a parameter called `generator` receives the random generator."""
        self.function, self.answers, self.contexts = function, tuple(answers), tuple(contexts)
        self.name = name
        self._lucky = "generator" in inspect.signature(function).parameters

    def vote(
        self, context: Tensor, x: Tensor, first: Tensor, second: Tensor, generator: torch.Generator
    ) -> Tensor:
        c = context[:, None].expand_as(first).flatten()
        own: dict[str, Any] = {"generator": generator} if self._lucky else {}
        found = self.function(c, first.flatten(), second.flatten(), **own)
        bits = _as_tensor(found, f"judge {self.name}").to(x.dtype)
        if bits.shape != c.shape:
            raise InputError(
                f"judge {self.name} gave shape {list(bits.shape)} for {len(c)} pairs; it must "
                f"give one number a pair, [{len(c)}]"
            )
        if not bool(((bits >= 0) & (bits <= 1)).all()):
            worst = float(bits[~((bits >= 0) & (bits <= 1))][0])
            raise InputError(
                f"judge {self.name} gave {worst:g}; give 1 where the first answer is preferred, 0 "
                "where the second is, 1/2 for a tie"
            )
        return bits.view_as(first)


def judge_of_function(
    function: Callable[..., Any],
    *,
    name: str,
    contexts: Sequence[str],
    answers: int | None,
    x: Tensor,
    symmetrise: bool = False,
) -> AbstractJudge:
    """Make a judge from a user's function, whose parameters determine its kind.

    - f(contexts [C]) -> P [C, K, K], or f() -> P: a table;
    - f(x [B, ...]) -> P [B, K, K]: one game per input (the parameter is called x or inputs);
    - f(contexts [B], first [B], second [B]) -> [B]: probabilities give a table; random values of 0
      or 1 are votes of a judge that can only be asked.

    Args:
        function: as above.
        name: name in messages.
        contexts: their names.
        answers: number of answers, if the function does not determine it; None means as many as
            contexts.
        x: a few inputs to test the function on.
        symmetrise: use (P + 1 - P^T) / 2 of a table.

    Raises:
        InputError: the function fails, returns something else, or is not antisymmetric.
    """
    taken = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name != "generator"
    ]
    subject = f"judge {name}"
    numbers = torch.arange(len(contexts))
    with running(subject):
        if len(taken) == 1 and taken[0] in OF_INPUTS:
            found = _as_tensor(function(x), subject)
            k = found.shape[-1] if found.ndim == 3 else 0
            judge = InputJudge(function, tuple(map(str, range(k))), name, symmetrise)
            judge.table(numbers[:0], x)
            return judge
        if len(taken) <= 1:
            P = _as_tensor(function(*[numbers][: len(taken)]), subject).double()
            return TableJudge(
                P, name=name, contexts=contexts if P.ndim == 3 else (), symmetrise=symmetrise
            )
        if len(taken) != 3:
            raise InputError(
                f"{subject} takes {', '.join(taken)}; write f(contexts), f(x) or f(contexts, "
                "first, second)"
            )
        k = answers or len(contexts)
        return _judge_by_pairs(function, name, contexts, k, symmetrise)


def _judge_by_pairs(
    function: Callable[..., Any], name: str, contexts: Sequence[str], k: int, symmetrise: bool
) -> AbstractJudge:
    """Ask about every pair: probabilities give a table, bits give a judge that casts votes."""
    judge = VoteJudge(function, tuple(map(str, range(k))), contexts, name)
    c, i, j = (
        each.flatten()
        for each in torch.meshgrid(
            torch.arange(len(contexts)), torch.arange(k), torch.arange(k), indexing="ij"
        )
    )
    luck, x = torch.Generator().manual_seed(0), torch.zeros(len(c), 1, dtype=torch.float64)
    bits = judge.vote(c, x, i[:, None], j[:, None], luck)[:, 0]
    if not bool(((bits == 0) | (bits == 1) | (bits == 0.5)).all()):
        P = bits.view(len(contexts), k, k)
        P[:, range(k), range(k)] = 0.5  # the function is not asked about an answer against itself
        return TableJudge(P, name=name, contexts=contexts, symmetrise=symmetrise)
    if symmetrise:
        return CoinJudge(judge)
    _require_no_side(judge, len(contexts), k)
    return judge


def _require_no_side(judge: VoteJudge, contexts: int, k: int) -> None:
    """Raise if a voting judge measurably favours the first or the second answer.

    Raises:
        InputError: the sums of both orders differ from 1 by more than five standard errors.
    """
    luck = torch.Generator().manual_seed(1)
    c = torch.randint(contexts, (ASKED,), generator=luck)
    pair = torch.randint(k, (ASKED, 2), generator=luck)
    pair = pair[pair[:, 0] != pair[:, 1]]
    c, i, j = c[: len(pair)], pair[:, :1], pair[:, 1:]
    x = torch.zeros(len(c), 1, dtype=torch.float64)
    off = judge.vote(c, x, i, j, luck) + judge.vote(c, x, j, i, luck) - 1
    mean, error = float(off.mean()), float(off.std()) / len(off) ** 0.5
    if abs(mean) > 5 * max(error, 1e-12):
        raise InputError(
            f"judge {judge.name} is not antisymmetric: over {len(off)} pairs in both orders the "
            f"first answer wins {0.5 + mean / 2:.3f} of the votes; symmetrise it: ask in an order "
            "drawn by a coin, or --set symmetrise=true (symmetrise=True)"
        )


class CoinJudge(AbstractJudge):
    """Asks another judge in random order, which makes it antisymmetric."""

    has_table = False

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge."""
        self.judge, self.name = judge, judge.name
        self.answers, self.contexts = judge.answers, judge.contexts

    def vote(
        self, context: Tensor, x: Tensor, first: Tensor, second: Tensor, generator: torch.Generator
    ) -> Tensor:
        swap = torch.randint(2, first.shape, generator=generator, device=first.device).bool()
        a, b = torch.where(swap, second, first), torch.where(swap, first, second)
        bits = self.judge.vote(context, x, a, b, generator)
        return torch.where(swap, 1 - bits, bits)


def _as_tensor(found: object, subject: str) -> Tensor:
    try:
        return torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{subject} gave {type(found).__name__}, no array of numbers: {error}"
        ) from None
