"""Find where a prompt ends and its answers start, in two texts or two conversations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nlhf.language.prompts import Message, Prompt
from nlhf.language.reading.messages import messages_of, transcript
from nlhf.language.reading.rows import Refused, Row, malformed

PROMPTS = ("prompt", "instruction", "question", "query", "input")
"""Keys of a prompt; the first one present counts."""
SYSTEM = ("system", "system_prompt")


@dataclass(frozen=True)
class Turns:
    """A prompt, and two answers to it or the reason why there are none.

    `several` means that an answer continues after the turn in which the two first differ. The rest
    belongs to the answer, as a transcript.
    """

    prompt: Prompt
    first: str = ""
    second: str = ""
    flaw: Refused | None = None
    several: bool = False

    def answers(self) -> tuple[str, str]:
        """The two answers.

        Raises:
            Refused: they cannot be compared.
        """
        if self.flaw is not None:
            raise self.flaw
        return self.first, self.second


def prompt_of(row: Row, *names: str) -> Prompt:
    """Get the prompt of a row as text, messages or transcript, with the row's system message.

    Args:
        row: the row with the prompt.
        names: keys of the prompt; the first one present counts.

    Raises:
        Refused: it is missing, or neither text nor messages that end with a user message.
    """
    names = names or PROMPTS
    value, key = row.value(*names), row.one(names) or names[0]
    if key == "instruction" and isinstance(value, str) and (more := row.text("input")):
        value = f"{value}\n\n{more}"
    messages = messages_of(value, key)
    if messages is None and isinstance(value, str):
        turns = transcript(value)
        if turns is None:
            return with_system(row, value)
        messages = turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns
    assert messages is not None
    return with_system(row, checked(messages, key))


def checked(messages: Sequence[Message], key: str) -> list[Message]:
    """Validate messages that an answer can follow.

    Raises:
        Refused: the last message is not the user's.
    """
    if messages[-1]["role"] == "assistant":
        raise malformed(key, "ends with the assistant; the answer goes elsewhere")
    if messages[-1]["role"] != "user":
        raise malformed(key, "must end with the user's message")
    return list(messages)


def with_system(row: Row, prompt: Prompt) -> Prompt:
    """The prompt, preceded by the row's system message if there is one.

    Raises:
        Refused: the system message is not text.
    """
    system = row.text(*SYSTEM)
    if system is None:
        return prompt
    first: Message = {"role": "system", "content": system}
    if isinstance(prompt, str):
        return [first, {"role": "user", "content": prompt}]
    return prompt if prompt and prompt[0]["role"] == "system" else [first, *prompt]


def turns_of(prompt: Prompt | None, first: Any, second: Any, keys: tuple[str, str]) -> Turns:
    """Split two answers from the prompt that they share.

    Conversations split at the last assistant turn up to which they are the same. Texts after a
    given prompt are complete answers. Without a prompt, their common start is the prompt.

    Args:
        prompt: the row's own prompt; None if it is contained in the answers.
        first: text, messages or a transcript.
        second: the same.
        keys: names of the two answers, for messages.

    Returns:
        The turns. The prompt may be valid even if the answers are not.

    Raises:
        Refused: there is no prompt.
    """
    try:
        a, b = (
            _text_or_messages(value, key, prompt)
            for value, key in zip((first, second), keys, strict=True)
        )
        if isinstance(a, str) and isinstance(b, str):
            return _texts(prompt, a, b, keys)
        if isinstance(a, str) or isinstance(b, str):
            if prompt is None:
                raise malformed("prompt", f"missing: {keys[0]} and {keys[1]} are text and messages")
            return Turns(prompt, _after(prompt, a, keys[0]), _after(prompt, b, keys[1]))
    except Refused as flaw:
        if prompt is None:
            raise
        return Turns(prompt, flaw=flaw)
    return _conversations(prompt, a, b, keys)


def _text_or_messages(value: Any, key: str, prompt: Prompt | None) -> str | list[Message]:
    messages = messages_of(value, key)
    if messages is not None:
        return messages
    turns = None if isinstance(prompt, str) else transcript(value)
    if turns is None or len(turns) < 2 or turns[: len(prompt or ())] != _as_messages(prompt):
        return value  # given a prompt, a text that does not start with it is just the answer
    return turns


def _texts(prompt: Prompt | None, a: str, b: str, keys: tuple[str, str]) -> Turns:
    if prompt is not None:
        return Turns(prompt, a, b)
    alike = itertools.takewhile(lambda signs: signs[0] == signs[1], zip(a, b, strict=False))
    spaces = [i for i, (sign, _) in enumerate(alike) if sign.isspace()]
    start = a[: spaces[-1]].rstrip() if spaces else ""  # the prompt ends between two words
    if not start:
        raise malformed("prompt", f"missing; {keys[0]} and {keys[1]} do not begin alike either")
    return Turns(start, a[len(start) :], b[len(start) :])


def _after(prompt: Prompt, answer: str | list[Message], key: str) -> str:
    """The single answer that follows a prompt."""
    if isinstance(answer, str):
        return answer
    start = _as_messages(prompt)
    rest = answer[len(start) :] if start and answer[: len(start)] == start else answer
    return _answer(rest, key)


def _answer(rest: list[Message], key: str) -> str:
    if len(rest) != 1 or rest[0]["role"] != "assistant":
        raise malformed(key, "must be text or one message of the assistant")
    return rest[0]["content"]


def _as_messages(prompt: Prompt | None) -> list[Message]:
    if prompt is None:
        return []
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(each) for each in prompt]


def _conversations(
    prompt: Prompt | None, a: list[Message], b: list[Message], keys: tuple[str, str]
) -> Turns:
    shared = 0
    while shared < min(len(a), len(b)) - 1 and a[shared] == b[shared]:
        shared += 1
    flaw = _flaw(a[shared:], b[shared:], keys)
    start = a[:shared]
    while start and start[-1]["role"] == "assistant":
        start.pop()
        flaw = flaw or Refused(keys[0], "two messages of the assistant in a row")
    whole = _joined(prompt, start, keys[0])
    if whole is None:
        raise flaw or malformed("prompt", f"missing; {keys[0]} and {keys[1]} do not begin alike")
    if flaw is not None:
        return Turns(whole, flaw=flaw)
    first, second = (_transcribed(messages[shared:]) for messages in (a, b))
    return Turns(whole, first, second, several=max(len(a), len(b)) > shared + 1)


def _transcribed(rest: list[Message]) -> str:
    """An answer and what followed it, as a transcript."""
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    later = (f"{names[each['role']]}: {each['content']}" for each in rest[1:])
    return "\n\n".join((rest[0]["content"], *later))


def _flaw(a: list[Message], b: list[Message], keys: tuple[str, str]) -> Refused | None:
    """The reason why the differing parts of two conversations cannot be compared, if any."""
    for rest, key in ((a, keys[0]), (b, keys[1])):
        if rest[-1]["role"] != "assistant":
            return Refused(key, "ends with the user, without an answer")
        if rest[0]["role"] != "assistant":
            return Refused(key, f"{keys[0]} and {keys[1]} answer different prompts")
    return None


def _joined(prompt: Prompt | None, shared: list[Message], key: str) -> Prompt | None:
    """Join the row's own prompt with the common start of both conversations."""
    if not shared or all(each["role"] == "system" for each in shared):
        if prompt is None:
            return None
        own = _as_messages(prompt)
        return prompt if not shared or own[:1] == shared[:1] else [*shared, *own]
    if prompt is None or isinstance(prompt, str):
        return shared
    own = _as_messages(prompt)
    if own[-len(shared) :] == shared:
        return own
    if shared[-len(own) :] == own:
        return shared
    raise malformed("prompt", f"is not what {key} begins with")
