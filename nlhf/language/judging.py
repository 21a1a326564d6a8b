"""Judges: P(a > b | x), who says which of two answers to a prompt is better."""

from __future__ import annotations

import importlib
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.preference_models import PreferenceModel, load_preference
from nlhf.language.prompts import Prompt

ASYMMETRY = 1e-3
"""P(a > b) + P(b > a) may differ from 1 by this: a judge may batch and round as it likes."""


class AbstractJudge(ABC):
    """A preference over answers. `name` is how messages and logs call it."""

    name: str = "judge"

    @abstractmethod
    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x) in [0, 1], [B], where P(a > b | x) + P(b > a | x) = 1.

        Args:
            prompts: x, text or messages, B of them.
            a: one answer a prompt, as text.
            b: the answers that they are compared with.
        """


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


class ModelJudge(AbstractJudge):
    """A learned preference model."""

    def __init__(self, model: PreferenceModel, name: str) -> None:
        """Take the model and the name by which messages call it."""
        self.model, self.name = model, name

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """What the model says, [B], float64."""
        return self.model.probabilities(prompts, a, b)


class CheckedJudge(AbstractJudge):
    """A judge whose answers are looked at: finite, in [0, 1] always; antisymmetric on first use."""

    def __init__(self, judge: AbstractJudge) -> None:
        """Take the judge; nothing is asked yet."""
        self.judge, self.name = judge, judge.name
        self._seen = False

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B].

        Raises:
            InputError: as many numbers as prompts did not come, or one of them is NaN, lies
                outside [0, 1], or does not sum to 1 with the reverse order's.
        """
        if not len(prompts) == len(a) == len(b):
            raise InputError(f"{len(prompts)} prompts for {len(a)} and {len(b)} answers")
        forward = self._asked(prompts, a, b)
        if not self._seen and len(a):
            backward = self._asked(prompts, b, a)
            off = (forward + backward - 1).abs()
            if float(off.max()) > ASYMMETRY:
                i = int(off.argmax())
                raise InputError(
                    f"preference {self.name} is not antisymmetric: P(a > b) = "
                    f"{float(forward[i]):.4g} and P(b > a) = {float(backward[i]):.4g} for answers "
                    f"{_short(a[i])} and {_short(b[i])}; they must sum to 1 (score both orders "
                    "and average)"
                )
            self._seen = True
        return forward

    def _asked(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        p = self.judge(prompts, a, b)
        if p.shape != (len(a),):
            raise InputError(
                f"preference {self.name} gave shape {list(p.shape)} for {len(a)} pairs; it must "
                "give one number a pair"
            )
        bad = ~((p >= 0) & (p <= 1))
        if bool(bad.any()):
            i = int(bad.int().argmax())
            value = float(p[i])
            what = "NaN" if math.isnan(value) else f"{value:.4g}, which is no probability,"
            raise InputError(
                f"preference {self.name} gave {what} for answers {_short(a[i])} and "
                f"{_short(b[i])}; it must give P(a > b) between 0 and 1"
            )
        return p


def get_judge(spec: str, device: torch.device | str = "cpu") -> AbstractJudge:
    """Find a judge by name; it is checked when it is first used.

    Args:
        spec: a folder that `preference-train` wrote; or `module:function`, a Python callable
            (prompts, a, b) -> P(a > b | x) that takes lists of prompts (text or messages) and of
            answers, or a class of such callables, made without arguments.
        device: where a preference model computes.

    Raises:
        InputError: neither a folder nor a callable.
    """
    if ":" in spec and not os.path.isdir(spec):
        return CheckedJudge(FunctionJudge(_function(spec), spec))
    if not Path(spec).is_dir():
        fix = f"; run `python cli.py preference-train --pairs {spec} --out DIR` first"
        raise InputError(
            f"preference={spec!r} is neither a folder that preference-train wrote nor "
            f"module:function{fix if Path(spec).is_file() else ''}"
        )
    return CheckedJudge(ModelJudge(load_preference(spec, device), spec))


def _function(spec: str) -> Callable[..., Any]:
    module_name, _, name = spec.partition(":")
    here = os.getcwd()
    added = here not in sys.path
    if added:  # as `python -m` has it: a judge beside the user's data is found
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(
            f"preference={spec!r}: cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from None
    finally:
        if added:
            sys.path.remove(here)
    found = getattr(module, name, None)
    if found is None:
        close = get_close_matches(name, dir(module), 1)
        hint = f"did you mean {close[0]!r}?" if close else "look at its spelling"
        raise InputError(f"preference={spec!r}: {module_name} has no {name!r}; {hint}")
    if isinstance(found, type):
        found = found()
    if not callable(found):
        raise InputError(f"preference={spec!r} is no function; it must take (prompts, a, b)")
    return found


def _short(answer: str) -> str:
    return repr(answer if len(answer) <= 40 else answer[:37] + "...")
