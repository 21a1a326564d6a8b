"""Conversations of two models with one person, who judged which was better."""

from __future__ import annotations

from typing import Any

from nlhf.language.reading.layout import Layout, Pair, ParsedRow, compared, verdict
from nlhf.language.reading.messages import messages_of
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import turns_of

KEYS = ("conversation_a", "conversation_b")
WINNER = ("winner", "verdict", "vote")


def _until(value: object, turn: float | None, key: str) -> Any:
    """The conversation up to the judged turn."""
    messages = messages_of(value, key)
    if messages is None or turn is None or turn < 1:
        return value
    questions = [i for i, each in enumerate(messages) if each["role"] == "user"]
    return messages[: questions[int(turn)]] if len(questions) > turn else messages


def _talks(row: Row) -> tuple[Any, Any]:
    """Both conversations up to the judged turn, whose number may be omitted."""
    given = row.values.get("turn")
    turn = None if isinstance(given, str) and not given.isdigit() else row.number("turn")
    a, b = (_until(row.value(key), turn, key) for key in KEYS)
    return a, b


def _read(row: Row) -> ParsedRow:
    turns = turns_of(None, *_talks(row), KEYS)
    names = [row.text(key) for key in ("model_a", "model_b")]
    same = names[0] == names[1]  # the winner's name is then ambiguous
    first, second = ([side, *([name] if name and not same else [])] for side, name in
                     zip(("model_a", "model_b"), names, strict=True))  # fmt: skip

    def pairs() -> list[Pair]:
        share = verdict(row, *WINNER, first=[*first, "a"], second=[*second, "b"])
        return [Pair(*turns.answers(), share=share)]

    return compared(turns, pairs)


LAYOUT = Layout(
    name="arena conversations",
    needs=(KEYS[:1], KEYS[1:]),
    read=_read,
    pairs=True,
    shown="conversation_a, conversation_b, winner (model_a, model_b, tie, ...)",
)
