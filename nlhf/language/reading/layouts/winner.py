"""Two answers to a prompt and the better one, as in annotation tools and Kaggle's arena."""

from __future__ import annotations

import re
from typing import Any

from nlhf.language.reading.layout import Layout, Pair, ParsedRow, by_scores, compared, verdict
from nlhf.language.reading.messages import parsed
from nlhf.language.reading.rows import Refused, Row, malformed
from nlhf.language.reading.turns import PROMPTS, prompt_of, turns_of

ASKED = (*PROMPTS, "context")
SIDES = (("a", "b"), ("1", "2"), ("0", "1"))
WORDS = ("response", "answer", "completion", "output", "summary", "text")
KEYS = tuple(tuple(f"{word}_{side[i]}" for side in SIDES for word in WORDS) for i in (0, 1))
WON = ("winner_model_a", "winner_model_b", "winner_tie")
WINNER = (
    "winner", "preference", "preferred", "choice", "label", "better", "better_response_id",
    "verdict", "overall_preference", WON[0], "score_a", "score_1", "score_0",
)  # fmt: skip
_ORDER = re.compile(r"\[*\s*(\w+)\s*([<>=])\2*\s*(\w+)\s*\]*")


def _keys(row: Row) -> tuple[str, str, tuple[str, str]] | None:
    """The keys of the two answers that belong together, and the labels of the two sides."""
    for word in WORDS:
        for side in SIDES:
            first, second = (f"{word}_{each}" for each in side)
            if first in row and second in row:
                return first, second, side
    return None


def _share(row: Row, first: str, second: str, side: tuple[str, str]) -> float:
    if WON[0] in row:
        won = [row.number(key) or 0.0 for key in WON]
        if sorted(won) != [0, 0, 1]:
            raise malformed(WON[0], "one of winner_model_a, winner_model_b, winner_tie must be 1")
        return won[0] + won[2] / 2
    key = row.one(WINNER) or WINNER[0]
    if key.startswith("score_"):
        share = by_scores(row, [(f"score_{side[0]}", f"score_{side[1]}")])
        if share is None:
            raise row.missing(f"score_{side[1]}")
        return share
    value = row.value(*WINNER)
    order = _ORDER.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if order and (order[1], order[3]) in (side, side[::-1]):  # "A>B", "[[B>>A]]"
        return 0.5 if order[2] == "=" else float((order[1] == side[0]) == (order[2] == ">"))
    if key == "overall_preference":  # HelpSteer: from -3 (the first) to 3 (the second)
        score = row.number(key) or 0.0
        return 0.5 if score == 0 else float(score < 0)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = row.values[key] = f"{value:g}"
    a, b = ([s, key, f"model_{s}", f"response_{s}", word] for s, key, word in
            zip(side, (first, second), ("first", "second"), strict=True))  # fmt: skip
    return verdict(row, key, first=[first, *a], second=[second, *b])


def _conversation(questions: Any, answers: Any, key: str) -> Any:
    """Merge turns from two lists, as in Kaggle's arena, into one conversation; else the answer."""
    lists = [parsed(v) if isinstance(v, str) and v[:1] == "[" else v for v in (questions, answers)]
    if not all(isinstance(each, list) and each for each in lists):
        return None
    texts = [*lists[0], *lists[1]]
    if not all(text is None or isinstance(text, str) for text in texts):
        return None
    if len(lists[0]) != len(lists[1]) or None in texts:
        raise Refused(key, "a turn has no answer")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in zip(*lists, strict=True)
            for role, text in zip(roles, turn, strict=True)]  # fmt: skip


def _read(row: Row) -> ParsedRow:
    found = _keys(row)
    if found is None:
        raise malformed("response_b", "no answer of the same name as the other; give both")
    first, second, side = found
    questions = row.value(*ASKED)
    one, two = (_conversation(questions, row.value(key), key) for key in (first, second))
    if one is not None and two is not None:
        turns = turns_of(None, one, two, (first, second))
    else:
        answer, other = row.value(first), row.value(second)
        turns = turns_of(prompt_of(row, *ASKED), answer, other, (first, second))
    return compared(turns, lambda: [Pair(*turns.answers(), share=_share(row, first, second, side))])


LAYOUT = Layout(
    name="two answers and a winner",
    needs=(ASKED, KEYS[0], KEYS[1], WINNER),
    read=_read,
    pairs=True,
    shown="prompt, response_a, response_b, winner (response_a, b, tie, ...)",
)
