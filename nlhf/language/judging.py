"""Judges: P(a > b | x), the probability that answer a to prompt x is better than answer b."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.prompts import Prompt

ASYMMETRY = 1e-3
"""Tolerance on P(a > b) + P(b > a) = 1: a judge may batch and round as it likes."""


class AbstractJudge(ABC):
    """A preference over answers.

    Attributes:
        name: name in messages and logs.
        antisymmetric: whether P(a > b | x) + P(b > a | x) = 1 holds by construction.
        transitive: whether P(a > b | x) = sigmoid(r(x, a) - r(x, b)), so that there are no cycles.
    """

    name: str = "judge"
    antisymmetric: bool = False
    transitive: bool = False

    @abstractmethod
    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x) in [0, 1], [B], where P(a > b | x) + P(b > a | x) = 1.

        Args:
            prompts: x, B prompts as text or messages.
            a: one answer per prompt, as text.
            b: the answers to compare them with.
        """

    def parts(self) -> list[tuple[float, AbstractJudge]]:
        """The judges it is made of, with their weights, which sum to 1."""
        return [(1.0, self)]

    def facts(self) -> dict[str, Any]:
        """What a log records about the judge, as JSON values."""
        return {"name": self.name, "transitive": self.transitive}

    def counts(self) -> dict[str, float]:
        """Counts so far: questions, cost, failures. All are sums, so they can be added."""
        return {}

    def new_warnings(self) -> list[str]:
        """New warnings for the user, one per line."""
        return []


class AbstractWrapper(AbstractJudge):
    """A judge that wraps another one and uses its name."""

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge without asking it anything."""
        self.judge, self.name = judge, judge.name
        self.antisymmetric, self.transitive = judge.antisymmetric, judge.transitive

    def facts(self) -> dict[str, Any]:
        """The facts of the wrapped judge."""
        return self.judge.facts()

    def counts(self) -> dict[str, float]:
        """The counts of the wrapped judge."""
        return self.judge.counts()

    def new_warnings(self) -> list[str]:
        """The new warnings of the wrapped judge."""
        return self.judge.new_warnings()


class TableJudge(AbstractJudge):
    """A finite list of answers with a table of win probabilities."""

    name = "table"

    def __init__(self, answers: Sequence[str], P: Tensor) -> None:
        """Take the table.

        Args:
            answers: the K answers, without duplicates; asking for any other raises an error.
            P: P(i > j), [K, K], the same for every prompt.

        Raises:
            InputError: the table does not fit the answers.
        """
        if P.shape != (len(answers), len(answers)) or len(set(answers)) < len(answers):
            raise InputError(f"a table {list(P.shape)} does not fit {len(answers)} answers")
        self._rows = {answer: i for i, answer in enumerate(answers)}
        self._P = P

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P[a, b], [B]."""
        return self._P[self._index(a), self._index(b)]

    def _index(self, answers: Sequence[str]) -> list[int]:
        try:
            return [self._rows[answer] for answer in answers]
        except KeyError as error:
            known = ", ".join(map(repr, list(self._rows)[:8]))
            raise InputError(f"the table has no answer {error}; it has {known}") from None


class FunctionJudge(AbstractJudge):
    """A Python callable (prompts, a, b) -> P(a > b | x) that returns numbers or a tensor, [B]."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Take the function and its name for messages."""
        self.function, self.name = function, name
        self._calls = 0

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """The function's values as floats, [B]."""
        self._calls += 1
        try:
            values = self.function(list(prompts), list(a), list(b))
        except BaseException as error:
            error.add_note(f"call {self._calls} of preference {self.name}, with {len(a)} pairs")
            raise
        try:
            return torch.as_tensor(values, dtype=torch.float64).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"preference {self.name} gave {type(values).__name__}; it must give one number a "
                "prompt, P(a > b | x)"
            ) from None


class SymmetrisedJudge(AbstractWrapper):
    """Asks an order-dependent judge in both orders and averages.

    See `averaged`; where p is antisymmetric, the average is p. It also measures the position bias.
    """

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge without asking it anything."""
        super().__init__(judge)
        self.antisymmetric, self.transitive = True, False
        self._orders = Orders()

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B], float64.

        Raises:
            InputError: see `ask`.
        """
        forward, backward = ask(self.judge, prompts, a, b), ask(self.judge, prompts, b, a)
        self._orders.add(forward, backward)
        return averaged(forward, backward)

    def facts(self) -> dict[str, Any]:
        """The facts of the wrapped judge, with a note that it is symmetrised."""
        return {**self.judge.facts(), "symmetrised": True}

    def counts(self) -> dict[str, float]:
        """The counts of the wrapped judge and the effects of the order."""
        return self.judge.counts() | self._orders.counts()


class Orders:
    """The effect of the order of answers on a judge: sums over pairs asked in both orders."""

    def __init__(self) -> None:
        """Start with no pairs."""
        self._pairs, self._first, self._flips = 0, 0.0, 0

    def add(self, forward: Tensor, backward: Tensor) -> None:
        """Add pairs.

        Args:
            forward: P that a wins when a is shown first, [B].
            backward: P that b wins when b is shown first, [B].
        """
        self._pairs += len(forward)
        self._first += float((forward + backward).sum()) / 2
        self._flips += int(((forward > 0.5) & (backward > 0.5)).sum())
        self._flips += int(((forward < 0.5) & (backward < 0.5)).sum())

    def counts(self) -> dict[str, float]:
        """Number of pairs, sum of first-position shares, number of verdicts that flip."""
        return {"pairs": self._pairs, "first_place": self._first, "flips": self._flips}


class CheckedJudge(AbstractWrapper):
    """Checks that a judge's values are finite and in [0, 1]; antisymmetry only on first use.

    A judge that is antisymmetric by construction only gets the first check.
    """

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge without asking it anything."""
        super().__init__(judge)
        self._checked = judge.antisymmetric

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B].

        Raises:
            InputError: see `ask`; or P(a > b) and P(b > a) do not sum to 1.
        """
        if not len(prompts) == len(a) == len(b):
            raise InputError(f"{len(prompts)} prompts for {len(a)} and {len(b)} answers")
        forward = ask(self.judge, prompts, a, b)
        if not self._checked and len(a):
            backward = ask(self.judge, prompts, b, a)
            off = (forward + backward - 1).abs()
            if float(off.max()) > ASYMMETRY:
                i = int(off.argmax())
                raise InputError(
                    f"preference {self.name} is not antisymmetric: P(a > b) = "
                    f"{float(forward[i]):.4g} and P(b > a) = {float(backward[i]):.4g} for answers "
                    f"{short(a[i])} and {short(b[i])}; they must sum to 1; --set symmetrise=true "
                    "asks both orders and averages"
                )
            # identical answers reveal little about the effect of the order
            self._checked = any(x != y for x, y in zip(a, b, strict=True))
        return forward


def averaged(forward: Tensor, backward: Tensor) -> Tensor:
    """P(a > b) = (p(a, b) + 1 - p(b, a)) / 2, exactly 1/2 where p(a, b) = p(b, a).

    Args:
        forward: p(a, b), the probability that a wins when shown first, [B].
        backward: p(b, a), the probability that b wins when shown first, [B].
    """
    return 0.5 + (forward - backward) / 2


def ask(
    judge: AbstractJudge, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]
) -> Tensor:
    """Ask a judge and validate its values, [B].

    Raises:
        InputError: the number of values differs from the number of prompts, or a value is NaN or
            outside [0, 1].
    """
    p = judge(prompts, a, b)
    if p.shape != (len(a),):
        raise InputError(
            f"preference {judge.name} gave shape {list(p.shape)} for {len(a)} pairs; it must "
            "give one number a pair"
        )
    bad = ~((p >= 0) & (p <= 1))
    if bool(bad.any()):
        i = int(bad.int().argmax())
        value = float(p[i])
        what = "NaN" if math.isnan(value) else f"{value:.4g}, which is no probability,"
        raise InputError(
            f"preference {judge.name} gave {what} for answers {short(a[i])} and "
            f"{short(b[i])}; it must give P(a > b) between 0 and 1"
        )
    return p


def short(text: str) -> str:
    """A text in quotes, shortened at the end if it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
