"""A prompt and an answer that a person or a model gave, as texts or as messages."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, ParsedRow
from nlhf.language.reading.messages import messages_of
from nlhf.language.reading.rows import Row, malformed
from nlhf.language.reading.turns import PROMPTS, prompt_of

ANSWERS = ("completion", "answer", "response", "output")


def _answer(row: Row, key: str) -> str:
    messages = messages_of(row.value(key), key)
    if messages is None:
        return row.value(key)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise malformed(key, "must be text or one message of the assistant")
    return messages[0]["content"]


def _read(row: Row) -> ParsedRow:
    key = row.one(ANSWERS) or ANSWERS[0]
    return ParsedRow(prompt_of(row), answer=lambda: _answer(row, key))


LAYOUT = Layout(
    name="prompt and completion",
    needs=(PROMPTS, ANSWERS),
    read=_read,
    answers=True,
    shown="prompt, completion (or answer, response, output)",
)
