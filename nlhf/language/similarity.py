"""ROUGE: overlap of a text with a reference text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence


def words(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def rouge_1(answer: Sequence[str], reference: Sequence[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the words that two texts share, counted with multiplicity.

    Source: Lin 2004 (ROUGE: a package for automatic evaluation of summaries), section 2.
    """
    common = sum((Counter(answer) & Counter(reference)).values())
    return (
        common / max(len(answer), 1),
        common / max(len(reference), 1),
        _f1(common, len(answer), len(reference)),
    )


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 by the longest common subsequence of words.

    Source: Lin 2004, section 3.
    """
    previous = [0] * (len(reference) + 1)
    for word in answer:
        row = [0]
        for j, other in enumerate(reference, 1):
            longest = max(previous[j], row[-1])
            row.append(previous[j - 1] + 1 if word == other else longest)
        previous = row
    return _f1(previous[-1], len(answer), len(reference))


def _f1(common: int, *lengths: int) -> float:
    return 2 * common / sum(lengths) if common else 0.0
