"""What a prompt is: plain text, or the messages of a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Prompt = str | Sequence[Mapping[str, str]]
"""Text, or messages {"role": ..., "content": ...}, the last one the user's."""
