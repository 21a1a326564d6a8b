"""What an estimator brings, told out of its class: its summary, its settings and their meaning."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bioplaus.config.choices import estimator_code
from bridge.config import plain_fields


@dataclass(frozen=True)
class Setting:
    """A setting of an estimator.

    Attributes:
        name: its key.
        default: its value where none is given.
        meaning: what the docstring of its class says of it; "" where that is silent.
    """

    name: str
    default: Any
    meaning: str


def described(name: str) -> tuple[str, tuple[Setting, ...]]:
    """Tell an estimator's summary and its own settings.

    Args:
        name: one that is known, or `module:Class` or `file.py:Class`.

    Returns:
        The first line of its docstring, and what it has beside phases and gate.

    Raises:
        InputError: there is no such estimator.

    Example:
        >>> summary, settings = described("holomorphic")
        >>> [(each.name, each.default) for each in settings]
        [('beta', 0.5), ('points', 4)]
    """
    found = estimator_code(name)
    kind = found if inspect.isclass(found) else type(found)
    meanings: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        meanings |= _attributes(each)
    fields = plain_fields(found, ("gate",))
    settings = (Setting(key, value, meanings.get(key, "")) for key, (_, value) in fields.items())
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(summary.split()), tuple(settings)


def _attributes(kind: Callable[..., Any]) -> dict[str, str]:
    """What a class's own docstring says under "Attributes:"."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    found = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", text, re.M)
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", found[1] if found else "", re.M)
    return {
        name.strip(): " ".join(meaning.split())
        for names, meaning in entries
        for name in names.split(",")
    }
