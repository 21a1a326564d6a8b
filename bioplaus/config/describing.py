"""What the class of an estimator documents: its summary, its settings and their meaning."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from bioplaus.config.choices import estimator_code
from bridge.config import docstring_meanings, plain_fields


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

    Examples:
        >>> summary, settings = described("holomorphic")
        >>> [(each.name, each.default) for each in settings]
        [('beta', 0.5), ('points', 4)]
    """
    found = estimator_code(name)
    kind = found if inspect.isclass(found) else type(found)
    meanings = docstring_meanings(kind)
    fields = plain_fields(found, ("gate",))
    settings = (Setting(key, value, meanings.get(key, "")) for key, (_, value) in fields.items())
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(summary.split()), tuple(settings)
