"""Three raters of summaries of docstrings; what a majority of them prefers is cyclic.

Each measures how short an answer is, how well it keeps to the style of PEP 257, and how many of the
docstring's words it keeps, relative to one another. They rank these as (short, content, style),
(content, style, short) and (style, short, content): a majority prefers short to content, content to
style, and style to short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from nlhf.language.corpora import INSTRUCTION, SUMMARY_WORDS, docstrings
from nlhf.language.prompts import Prompt, text_of
from nlhf.language.similarity import words

TASTES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
"""Each rater's utility of short, style and content."""
NEUTRAL = torch.tensor([-9.0, 0.75, 1.6], dtype=torch.float64)
SPREAD = torch.tensor([3.5, 0.19, 1.4], dtype=torch.float64)
"""Of a docstring's summary: minus its words, the fraction of style rules, the words it keeps. The
spreads are the standard deviations among answers of the warm start, the neutral values their means
but for style, where it is one broken rule: most of these answers are well styled."""
SHARP, SURE = 3.0, 6.0
"""Sharpness of the features, and certainty of the raters."""
AUTHORS = 200
"""Number of authors' summaries that the reward of RLHF compares an answer with."""


def features(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """How short, well styled and full of content each answer is, [B, 3], each row summing to 1.

    Softmax of SHARP times the standardised measures: minus the number of words, from the least
    that a summary has; the fraction of four rules of PEP 257 that it keeps; the number of different
    words of four letters or more that it has from the docstring.
    """
    rows = []
    for y, text in zip(answers, map(text_of, prompts), strict=True):
        answer_words = words(y)
        kept = set(answer_words) & set(words(text.removeprefix(INSTRUCTION)))
        few = max(len(answer_words), SUMMARY_WORDS[0])
        rows.append((-few, style(y), sum(len(word) >= 4 for word in kept)))
    measures = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    return torch.softmax(SHARP * (measures - NEUTRAL) / SPREAD, -1)


def style(answer: str) -> float:
    """The fraction of style rules that an answer keeps.

    It begins with a capital letter, its first word is not in the third person, it ends with a full
    stop, and it is one sentence without markup."""
    first = (answer.split() or [""])[0]
    rules = (
        answer[:1].isupper(),
        bool(first) and not re.fullmatch(r"\w+[^s]s", first),
        answer.endswith("."),
        bool(answer) and not re.search(r"[`*:#\n]|\.\s", answer),
    )
    return sum(rules) / len(rules)


def utilities(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """Each rater's utility of each answer, [B, 3]; an answer without words is the worst for all."""
    empty = torch.tensor([not words(y) for y in answers])[:, None]
    return (features(prompts, answers) @ TASTES.T).masked_fill(empty, -math.inf)


def majority(mine: Tensor, theirs: Tensor) -> Tensor:
    """The probability that two raters or more prefer the first, from utilities [..., 3].

    Each votes on its own, by sigmoid(SURE (u(a) - u(b))).
    """
    difference = torch.nan_to_num(mine - theirs, nan=0.0, posinf=math.inf, neginf=-math.inf)
    p, q, r = torch.sigmoid(SURE * difference).unbind(-1)
    return p * q + p * r + q * r - 2 * p * q * r


def raters(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
    """P(a > b | x): the decision of the majority, [B]."""
    return majority(utilities(prompts, a), utilities(prompts, b))


@cache
def authors() -> Tensor:
    """Utilities of authors' summaries, [AUTHORS, 3]; none is held out."""
    items = [item for item in docstrings() if not item.held_out]
    items = items[:: len(items) // AUTHORS][:AUTHORS]
    return utilities([item.prompt for item in items], [item.summary for item in items])


def reward(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """The reward of RLHF, [B]: the log-odds that the majority prefers the answer to an author's.

    This is what a reward model learns from votes on an answer and a summary drawn at random: cycles
    vanish in the mean over opponents.
    """
    wins = majority(utilities(prompts, answers)[:, None], authors()).mean(-1)
    return torch.logit(wins, eps=1e-3)
