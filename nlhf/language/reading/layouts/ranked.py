"""Several answers to a prompt with ranks or scores, as in Nectar and the original UltraFeedback."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from nlhf.language.reading.layout import Layout, Pair, ParsedRow
from nlhf.language.reading.messages import content_of
from nlhf.language.reading.rows import Refused, Row, malformed, number
from nlhf.language.reading.turns import PROMPTS, prompt_of

ANSWERS = ("answers", "completions", "responses", "outputs", "candidates")
TEXTS = ("text", "answer", "response", "completion", "output", "content")
RANKS, SCORES = ("rank", "ranking"), ("overall_score", "score", "rating", "reward")


def _fits(row: Row) -> bool:
    value = row.value(*ANSWERS)
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _text(answer: Row, key: str) -> str:
    found = answer.one(TEXTS)
    if found is None:
        raise malformed(key, f"an answer must have one of {', '.join(TEXTS)}")
    return content_of(answer.values[found], key)


def _merits(answers: list[Row], key: str) -> list[float]:
    """How good each answer is: minus its rank, or its score; all of one kind."""
    for names, sign in ((RANKS, -1), (SCORES, 1)):
        for name in names:
            if all(name in answer for answer in answers):
                return [sign * number(answer.values[name], f"{key}.{name}") for answer in answers]
    raise malformed(key, f"all answers must have one of {', '.join((*RANKS, *SCORES))}")


def _best_first(row: Row, key: str) -> list[tuple[str, float]]:
    """The answers and their merits, sorted."""
    values: list[Mapping[str, Any]] = row.values[key]
    if len(values) < 2:
        raise Refused(key, "fewer than two answers")
    answers = [Row(value) for value in values]
    judged = zip((_text(answer, key) for answer in answers), _merits(answers, key), strict=True)
    return sorted(judged, key=lambda each: -each[1])


def _pairs(row: Row, key: str) -> list[Pair]:
    return [
        Pair(better, worse, 1.0 if a > b else 0.5, sided=True)
        for (better, a), (worse, b) in itertools.combinations(_best_first(row, key), 2)
    ]


def _best(row: Row, key: str) -> str:
    (answer, a), (_, b), *_ = _best_first(row, key)
    if a == b:
        raise Refused(key, "a tie: no answer is the best, to be learned")
    return answer


def _read(row: Row) -> ParsedRow:
    key = row.one(ANSWERS) or ANSWERS[0]
    return ParsedRow(prompt_of(row), lambda: _pairs(row, key), lambda: _best(row, key))


LAYOUT = Layout(
    name="ranked answers",
    needs=(PROMPTS, ANSWERS),
    read=_read,
    pairs=True,
    shown="prompt, answers of {text, rank or score}",
    fits=_fits,
)
