"""Parse messages, a role and a text in any spelling, and transcripts, which become messages."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nlhf.language.prompts import Message
from nlhf.language.reading.rows import MEDIA, TOOLS, Refused, malformed
from nlhf.preferences.reading.records import check_depth, kind

ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "ai"),
}
TOOL_ROLES = (
    "tool", "tools", "function", "function_call", "function_response", "tool_call",
    "tool_response", "observation", "ipython",
)  # fmt: skip
TEXT_PARTS = ("text", "input_text", "output_text")
MEDIA_PARTS = ("image", "image_url", "input_image", "audio", "input_audio", "video", "file")
TOOL_PARTS = ("tool_use", "tool_result", "tool_call", "function_call")
_BY_WORD = {word: role for role, words in ROLES.items() for word in words}
_MARKS = (
    re.compile(r"(?:\A\s*|\n\s*\n)(Human|User|Assistant):[ \t]*"),
    re.compile(r"\s*### (Human|User|Assistant):\s*"),
)


def messages_of(value: object, key: str) -> list[Message] | None:
    """Parse a value as a message or a list of messages; None if it is text.

    A message is {"role", "content"} or {"from", "value"}. Its content is text or a list of text
    parts, which are joined.

    Raises:
        Refused: it is neither; a role is unknown; there are tools or images.
    """
    if isinstance(value, str):
        return None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise malformed(key, f"must be text or a list of messages, not {kind(value)}")
    if all(isinstance(each, Mapping) and "type" in each and not _role_key(each) for each in value):
        return [{"role": "assistant", "content": content_of(value, key)}]
    return [_message(each, key) for each in value]


def _role_key(message: Mapping[str, Any]) -> str | None:
    return next((name for name in ("role", "from") if message.get(name) is not None), None)


def _message(message: object, key: str) -> Message:
    if not isinstance(message, Mapping):
        form = "{'role': text, 'content': text}"
        raise malformed(key, f"a message must be {form}, not {kind(message)}")
    for name in TOOLS:
        if message.get(name):
            raise Refused(key, "tools are not read, only text")
    for name in MEDIA:
        if message.get(name):
            raise Refused(key, "images, sound or video are not read, only text")
    name = _role_key(message)
    role = message[name] if name else None
    content = next((message[n] for n in ("content", "value") if message.get(n) is not None), None)
    if not isinstance(role, str) or content is None:
        raise malformed(key, "a message must be {'role': text, 'content': text}")
    word = role.strip().lower()
    if word in TOOL_ROLES:
        raise Refused(key, f"role={role!r}: tools are not read, only text")
    if word not in _BY_WORD:
        raise malformed(key, f"role={role!r}; use one of {', '.join(_BY_WORD)}")
    return {"role": _BY_WORD[word], "content": content_of(content, key)}


def content_of(content: object, key: str) -> str:
    """The text of a content: the text itself, or its parts joined.

    Raises:
        Refused: a part is not text.
    """
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, Sequence):
        raise malformed(key, f"content must be text or parts that are text, not {kind(content)}")
    return "".join(_part(part, key) for part in parts)


def _part(part: object, key: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise malformed(key, f"a content part must be text, not {kind(part)}")
    what = part.get("type", "text")
    if what in MEDIA_PARTS or any(part.get(name) for name in ("image_url", *MEDIA)):
        raise Refused(key, "images, sound or video are not read, only text")
    if what in TOOL_PARTS:
        raise Refused(key, "tools are not read, only text")
    if what not in TEXT_PARTS or not isinstance(part.get("text"), str):
        raise malformed(key, f"a content part of type {what!r} is no text")
    return part["text"]


def transcript(text: str) -> list[Message] | None:
    """Parse a transcript, "Human: ... Assistant: ...", into messages; None if it is no transcript.

    It starts with a person. A new turn starts a paragraph (or with "###"). Consecutive turns of one
    speaker form one message. An empty last turn of the assistant is kept.
    """
    for mark in _MARKS:
        found = list(mark.finditer(text))
        if not found or text[: found[0].start()].strip() or found[0][1] == "Assistant":
            continue
        ends = [*(each.start() for each in found[1:]), len(text)]
        turns: list[Message] = []
        for each, end in zip(found, ends, strict=True):
            role, content = _BY_WORD[each[1].lower()], text[each.end() : end].strip()
            if turns and turns[-1]["role"] == role:
                content = f"{turns.pop()['content']}\n\n{content}".strip()
            turns.append({"role": role, "content": content})
        return turns
    return None


def in_a_cell(value: object) -> Any:
    """Messages that a table stores as text in JSON or Python syntax; other values unchanged.

    Only messages are parsed, because an answer may be any other JSON.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[{", "{")):
        return value
    found = parsed(value)
    listed = [found] if isinstance(found, Mapping) else found
    if isinstance(listed, list) and listed and all(_is_message(each) for each in listed):
        return found
    return value


def parsed(text: str) -> Any:
    """Parse a text as JSON or as a Python literal; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            check_depth(text)
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        {role, content} <= value.keys()
        for role, content in (("role", "content"), ("from", "value"))
    )
