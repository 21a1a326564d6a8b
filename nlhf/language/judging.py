"""Judges: P(a > b | x), who says which of two answers to a prompt is better."""

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
"""P(a > b) + P(b > a) may differ from 1 by this: a judge may batch and round as it likes."""


class AbstractJudge(ABC):
    """A preference over answers.

    Attributes:
        name: how messages and logs call it.
        antisymmetric: whether P(a > b | x) + P(b > a | x) = 1 holds by construction.
        transitive: whether P(a > b | x) = sigmoid(r(x, a) - r(x, b)): then it has no cycle.
    """

    name: str = "judge"
    antisymmetric: bool = False
    transitive: bool = False

    @abstractmethod
    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x) in [0, 1], [B], where P(a > b | x) + P(b > a | x) = 1.

        Args:
            prompts: x, text or messages, B of them.
            a: one answer a prompt, as text.
            b: the answers that they are compared with.
        """

    def parts(self) -> list[tuple[float, AbstractJudge]]:
        """The judges that it is made of, with their weights, which sum to 1."""
        return [(1.0, self)]

    def facts(self) -> dict[str, Any]:
        """What a log says of it, as JSON can say it."""
        return {"name": self.name, "transitive": self.transitive}

    def counts(self) -> dict[str, float]:
        """What it has counted so far: questions, cost, failures; sums, so that they add up."""
        return {}

    def told(self) -> list[str]:
        """What its user should know and was not told before, a line each."""
        return []


class AbstractWrapper(AbstractJudge):
    """A judge around another one, in whose name it speaks."""

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge; nothing is asked yet."""
        self.judge, self.name = judge, judge.name
        self.antisymmetric, self.transitive = judge.antisymmetric, judge.transitive

    def facts(self) -> dict[str, Any]:
        """Those of the judge inside."""
        return self.judge.facts()

    def counts(self) -> dict[str, float]:
        """Those of the judge inside."""
        return self.judge.counts()

    def told(self) -> list[str]:
        """What the judge inside says."""
        return self.judge.told()


class TableJudge(AbstractJudge):
    """Answers out of a finite list, and a table of win probabilities over it."""

    name = "table"

    def __init__(self, answers: Sequence[str], P: Tensor) -> None:
        """Take the table.

        Args:
            answers: the K answers, each once; whoever asks for another gets an error.
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
    """A Python callable (prompts, a, b) -> P(a > b | x), numbers or a tensor, one a prompt."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Take the function and the name by which messages call it."""
        self.function, self.name = function, name
        self._calls = 0

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """What the function says, as floats, [B]."""
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
    """A judge that depends on the order of the answers, asked in both and averaged.

    See `averaged`; where p is antisymmetric, that is p. It counts what the first place is worth.
    """

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge; nothing is asked yet."""
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
        """Those of the judge inside, and that it is symmetrised."""
        return {**self.judge.facts(), "symmetrised": True}

    def counts(self) -> dict[str, float]:
        """Those of the judge inside, and what the order does."""
        return self.judge.counts() | self._orders.counts()


class Orders:
    """What the order of two answers does to a judge: sums over the pairs asked in both."""

    def __init__(self) -> None:
        """Begin with no pair."""
        self._pairs, self._first, self._flips = 0, 0.0, 0

    def add(self, forward: Tensor, backward: Tensor) -> None:
        """Count pairs.

        Args:
            forward: P that a wins, a shown first, [B].
            backward: P that b wins, b shown first, [B].
        """
        self._pairs += len(forward)
        self._first += float((forward + backward).sum()) / 2
        self._flips += int(((forward > 0.5) & (backward > 0.5)).sum())
        self._flips += int(((forward < 0.5) & (backward < 0.5)).sum())

    def counts(self) -> dict[str, float]:
        """Pairs; the sum of the shares that went to the first place; verdicts that turn over."""
        return {"pairs": self._pairs, "first_place": self._first, "flips": self._flips}


class CheckedJudge(AbstractWrapper):
    """A judge whose answers are looked at: finite, in [0, 1] always; antisymmetric on first use.

    Where it is antisymmetric by construction, only the former.
    """

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge; nothing is asked yet."""
        super().__init__(judge)
        self._seen = judge.antisymmetric

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B].

        Raises:
            InputError: see `ask`; or P(a > b) and P(b > a) do not sum to 1.
        """
        if not len(prompts) == len(a) == len(b):
            raise InputError(f"{len(prompts)} prompts for {len(a)} and {len(b)} answers")
        forward = ask(self.judge, prompts, a, b)
        if not self._seen and len(a):
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
            # equal answers show little of what the order does
            self._seen = any(x != y for x, y in zip(a, b, strict=True))
        return forward


def averaged(forward: Tensor, backward: Tensor) -> Tensor:
    """P(a > b) = (p(a, b) + 1 - p(b, a)) / 2, even to the last bit where p(a, b) = p(b, a).

    Args:
        forward: p(a, b), that a wins where it is shown first, [B].
        backward: p(b, a), that b wins where it is shown first, [B].
    """
    return 0.5 + (forward - backward) / 2


def ask(
    judge: AbstractJudge, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]
) -> Tensor:
    """What a judge says, [B], looked at.

    Raises:
        InputError: as many numbers as prompts did not come, or one of them is NaN or lies outside
            [0, 1].
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
    """A text in quotes, the end of a long one left out."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
