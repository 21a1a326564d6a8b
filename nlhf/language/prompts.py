"""Prompts, and answers to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Message = dict[str, str]
"""{"role": "system", "user" or "assistant", "content": text}."""
Prompt = str | Sequence[Mapping[str, str]]
"""Text, or messages {"role": ..., "content": ...}, the last of which is the user's."""


@dataclass(frozen=True)
class Example:
    """A prompt and an answer that a person gave or would want."""

    prompt: Prompt
    completion: str


def text_of(prompt: Prompt) -> str:
    """The prompt as plain text: the text itself, or the messages joined by blank lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message["content"] for message in prompt)


def key_of(prompt: Prompt) -> str:
    """A string that is equal only for equal prompts."""
    if isinstance(prompt, str):
        return prompt
    return json.dumps([[message["role"], message["content"]] for message in prompt])
