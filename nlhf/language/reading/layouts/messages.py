"""A conversation: its last answer is learned, and everything before it is the prompt."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, ParsedRow
from nlhf.language.reading.messages import messages_of, transcript
from nlhf.language.reading.rows import Row, malformed
from nlhf.language.reading.turns import checked, with_system

TALK = ("messages", "conversations", "conversation")


def _read(row: Row) -> ParsedRow:
    key, value = row.one(TALK) or TALK[0], row.value(*TALK)
    messages = messages_of(value, key) or transcript(value)
    if messages is None:
        raise malformed(key, "must be a list of messages")
    last = messages[-1]
    if last["role"] != "assistant":
        return ParsedRow(with_system(row, checked(messages, key)))
    if len(messages) == 1:
        raise malformed(key, "an answer without a prompt")
    return ParsedRow(with_system(row, checked(messages[:-1], key)), answer=lambda: last["content"])


LAYOUT = Layout(
    name="messages",
    needs=(TALK,),
    read=_read,
    answers=True,
    shown="messages, or ShareGPT's conversations",
)
