"""Ensembles of judges: a weighted mean of their probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judging import AbstractJudge
from nlhf.language.prompts import Prompt

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?|[+-]?inf|nan"
_TERM = re.compile(rf"\s*({_NUMBER})\s*\*\s*(.*?)\s*", re.DOTALL)
_PLUS = re.compile(rf"\+(?=\s*(?:{_NUMBER})\s*\*)")


class EnsembleJudge(AbstractJudge):
    """P(a > b | x) = sum_i w_i P_i(a > b | x), with weights normalised to sum to 1.

    Antisymmetric if all members are. It may be cyclic even if no member is.
    """

    def __init__(self, members: Sequence[tuple[float, AbstractJudge]], name: str = "") -> None:
        """Take the members.

        Args:
            members: weights w_i > 0 and judges, at least one.
            name: name in messages; composed of the members' names if omitted.

        Raises:
            InputError: no member, or a weight that is not positive and finite.
        """
        if not members:
            raise InputError("an ensemble has no judge; give one or more, as 0.7*A+0.3*B")
        for weight, judge in members:
            if not (math.isfinite(weight) and weight > 0):
                raise InputError(
                    f"weight {weight:g} of preference {judge.name} must be positive and finite"
                )
        largest = max(weight for weight, _ in members)
        scaled = [weight / largest for weight, _ in members]
        self.members = [(w / sum(scaled), j) for w, (_, j) in zip(scaled, members, strict=True)]
        self.name = name or "+".join(f"{weight:g}*{judge.name}" for weight, judge in members)
        self.antisymmetric = all(judge.antisymmetric for _, judge in members)
        self.transitive = len(members) == 1 and members[0][1].transitive

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """The weighted mean, [B], float64."""
        terms = [weight * judge(prompts, a, b).double().cpu() for weight, judge in self.members]
        # rounding may exceed 1
        return sum(terms[1:], terms[0]).clamp(max=1.0)

    def parts(self) -> list[tuple[float, AbstractJudge]]:
        """The parts of all members."""
        return [(w * v, part) for w, judge in self.members for v, part in judge.parts()]

    def new_warnings(self) -> list[str]:
        """The new warnings of all members."""
        return [line for _, judge in self.members for line in judge.new_warnings()]


def terms_of(spec: str) -> list[tuple[float, str]] | None:
    """Parse "0.7*reward:A+0.3*judge:B" into weights and specs; None if it is not an ensemble."""
    if not _TERM.fullmatch(spec):
        return None
    found = [_TERM.fullmatch(term) for term in _PLUS.split(spec)]
    return [(float(match[1]), match[2]) for match in found if match is not None]
