"""RewardBench: a prompt with one correct and one incorrect answer, or several of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, Pair, ParsedRow, compared
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import PROMPTS, prompt_of, turns_of


def _listed(value: object) -> list[Any]:
    """RewardBench 2 has lists of texts; a list of messages is a single answer."""
    if isinstance(value, list) and value and not any(isinstance(v, Mapping) for v in value):
        return value
    return [value]


def _read(row: Row) -> ParsedRow:
    prompt = prompt_of(row)
    right, wrong = (_listed(row.value(*names)) for names in (CHOSEN, REJECTED))
    keys = ("chosen", "rejected")
    found = [turns_of(prompt, a, b, keys) for a in right for b in wrong]
    return compared(found[0], lambda: [Pair(*turns.answers(), sided=True) for turns in found])


LAYOUT = Layout(
    name="RewardBench",
    needs=(PROMPTS, CHOSEN, REJECTED, ("subset", "chosen_model", "num_correct")),
    read=_read,
    pairs=True,
    shown="prompt, chosen, rejected, subset or chosen_model; lists of answers too",
)
