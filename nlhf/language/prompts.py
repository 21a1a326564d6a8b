"""Prompts and answers, and how they are read from JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from nlhf.errors import InputError

Prompt = str | Sequence[Mapping[str, str]]
"""Text, or messages {"role": ..., "content": ...}, the last one the user's."""

ROLES = ("system", "user", "assistant", "tool")
MOST_BYTES = 2**30
MOST_DEPTH = 200
LONGEST = 2**26
"""Characters of a line."""


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that a person gave, or would want."""

    prompt: Prompt
    completion: str


T = TypeVar("T")


@dataclass(frozen=True)
class Sifted(Generic[T]):
    """What a file holds, and which of its lines lack something, as "line 3: prompt"."""

    kept: list[T]
    left_out: tuple[str, ...] = ()


def text_of(prompt: Prompt) -> str:
    """The prompt as plain text: itself, or what the messages say, a blank line between two."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message["content"] for message in prompt)


def key_of(prompt: Prompt) -> str:
    """A text that only equal prompts share."""
    if isinstance(prompt, str):
        return prompt
    return json.dumps([[message["role"], message["content"]] for message in prompt])


def read_prompts(path: Path | str) -> Sifted[Prompt]:
    """Read the key "prompt" of every line; other keys are left alone.

    Empty prompts are left out.

    Raises:
        InputError: see `read_rows`; a line without a prompt, with its number and the key; or all
            prompts are empty.
    """
    kept: list[Prompt] = []
    empty: list[int] = []
    for number, row in read_rows(path):
        prompt = as_prompt(row, f"{path}:{number}")
        if text_of(prompt).strip():
            kept.append(prompt)
        else:
            empty.append(number)
    if not kept:
        raise InputError(f"{path}:{empty[0]}: prompt: empty, as in all lines; give text to answer")
    return Sifted(kept, tuple(f"line {number}: prompt" for number in empty))


def read_answers(path: Path | str) -> dict[str, str]:
    """Read one answer a prompt: {"prompt": ..., "answer" or "completion" or "response": ...}.

    Answers to empty prompts are left out.

    Returns:
        The answers by `key_of` their prompts.

    Raises:
        InputError: a malformed line, or a prompt that is answered twice.
    """
    found: dict[str, str] = {}
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        prompt = as_prompt(row, where)
        key = key_of(prompt)
        name = next((n for n in ("answer", "completion", "response") if n in row), "answer")
        if key in found:
            raise InputError(f"{where}: prompt: answered a second time; give each prompt once")
        answer = as_answer(row, name, where)
        if text_of(prompt).strip():
            found[key] = answer
    return found


def read_examples(path: Path | str) -> Sifted[Example]:
    """Read {"prompt", "completion"} of every line; other keys are left alone.

    Examples of which either is empty are left out.

    Raises:
        InputError: see `read_rows`; a line without one of the two, with its number and the key; or
            no example is left.
    """
    kept: list[Example] = []
    empty: list[tuple[int, str]] = []
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        prompt, completion = as_prompt(row, where), as_answer(row, "completion", where)
        if text_of(prompt).strip() and completion.strip():
            kept.append(Example(prompt, completion))
        else:
            empty.append((number, "completion" if text_of(prompt).strip() else "prompt"))
    if not kept:
        number, key = empty[0]
        raise InputError(
            f"{path}:{number}: {key}: empty, and no line has both prompt and completion; give the "
            "answers to learn"
        )
    return Sifted(kept, tuple(f"line {number}: {key}" for number, key in empty))


def read_rows(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a file of JSON objects, one a line; blank lines are passed over.

    Yields:
        The number of the line, the first being 1, and its object.

    Raises:
        InputError: the file cannot be read, holds nothing, or a line is no JSON object.
    """
    path = Path(path)
    empty = True
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES // 2**20} MiB; give it in parts")
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST + 1), ""), 1):
                if len(line) > LONGEST:
                    raise InputError(f"{path}:{number}: longer than {LONGEST // 2**20} MiB")
                if line.strip():
                    empty = False
                    yield number, _object(line, f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no UTF-8 text: {error.reason}; give JSON lines") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if empty:
        raise InputError(f"{path}: empty; give one JSON object a line")


def as_prompt(row: Mapping[str, Any], where: str) -> Prompt:
    """Take "prompt" out of a row, which may be empty.

    Raises:
        InputError: it is missing, or neither text nor messages.
    """
    value = needed(row, "prompt", where)
    if isinstance(value, str):
        return value
    messages = _messages(value, f"{where}: prompt")
    if messages[-1]["role"] == "assistant":
        raise InputError(f"{where}: prompt: ends with the assistant; the answer goes elsewhere")
    return messages


def as_answer(row: Mapping[str, Any], key: str, where: str) -> str:
    """Take an answer out of a row: text, or a list of one message of the assistant.

    Raises:
        InputError: it is missing or something else.
    """
    value = needed(row, key, where)
    if isinstance(value, str):
        return value
    messages = _messages(value, f"{where}: {key}")
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise InputError(f"{where}: {key}: must be text or one message of the assistant")
    return messages[0]["content"]


def needed(row: Mapping[str, Any], key: str, where: str) -> Any:
    """The value of a key that a row must have.

    Raises:
        InputError: it has not.
    """
    if key not in row:
        raise InputError(f"{where}: {key}: missing; the line has {', '.join(row) or 'no keys'}")
    return row[key]


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: must be text or a list of messages, not {_kind(value)}")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise InputError(f"{where}: a message must be {{'role': text, 'content': text}}")
        if message["role"] not in ROLES:
            raise InputError(f"{where}: role={message['role']!r}; use one of {', '.join(ROLES)}")
    return value


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        _check_depth(line)
        row = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{where}: no JSON: {said}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object {{...}}, not {_kind(row)}")
    return row


def _check_depth(line: str) -> None:
    """Refuse what would take the parser to Python's own limit, where anything else may fail too."""
    if line.count("[") + line.count("{") <= MOST_DEPTH:
        return
    depth = 0
    for sign in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"?', "", line)):
        depth += 1 if sign in "[{" else -1
        if depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH}")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _kind(value: Any) -> str:
    if value == []:
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names[type(value)]
