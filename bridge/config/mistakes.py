"""Report the mistakes in a config, one line each: the value's origin, what is legal, the fix."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bridge.config.choices import UNKNOWN, UNKNOWN_TEXT
from bridge.config.keys import why_idle
from bridge.spelling import nearest_key


def explain(
    mistake: Any,
    model: type[BaseModel],
    data: Mapping[str, Any],
    origins: Mapping[str, str],
    keys: Sequence[str],
) -> str:
    """Describe one of pydantic's errors in one line.

    Args:
        mistake: the error.
        model: the model that refused `data`.
        data: the given values.
        origins: the origin of each key.
        keys: all keys of the model.
    """
    kind, context = mistake["type"], mistake.get("ctx", {})
    key = dotted(mistake["loc"], data)
    value, text = mistake["input"], mistake["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        why = why_idle(model, key, data)
        if why is not None:
            return no_effect(key, why, data, origins)
        text = f"unknown key {key!r}; {_nearest(key, keys)}"
        return _with_origin(origin_of(key, origins), text)
    if kind == "missing":
        text = f"{key} is required; give it with --set {key}=VALUE or in the TOML file"
        return _with_origin(origin_of(key, origins), text)
    if kind.startswith(UNKNOWN):
        leaf = kind.removeprefix(UNKNOWN)
        value = value.get(leaf) if isinstance(value, Mapping) else value
        key = f"{key}.{leaf}"
        if text.startswith(UNKNOWN_TEXT) and "did you mean" not in text:
            legal = text.removeprefix(UNKNOWN_TEXT).split(", ")
            close = difflib.get_close_matches(str(value), legal, 1)
            text += f"; did you mean {close[0]}?" if close else ""
    elif kind in _LEGAL:
        text = _LEGAL[kind].format(**context)
    elif kind == "value_error" and isinstance(value, Mapping):
        # the error of a group's own check belongs to the key that its text begins with, if given
        named = re.match(r"(\w+)=", text)
        inner = f"{key}.{named[1]}".lstrip(".") if named else key
        if inner in origins:
            key, value = inner, value.get(inner.rpartition(".")[2])
    if not key:
        return _with_origin(origin_of(key, origins), text)
    return _with_origin(origin_of(key, origins), text, f"{key}={short(value)}", short(value))


def no_effect(key: str, why: str, data: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Say that a given setting has no effect, and why."""
    value: Any = data
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    text = f"has no effect {why}"
    return _with_origin(origin_of(key, origins), text, f"{key}={short(value)}", short(value))


def _with_origin(origin: str | None, text: str, assigned: str = "", value: str = "") -> str:
    """Put the origin of a value in front of its mistake."""
    if origin and origin.startswith("--") and assigned:
        return f"{origin if origin.startswith('--set ') else f'{origin} {value}'}: {text}"
    where = f"{origin}: " if origin else ""
    return f"{where}{assigned}: {text}" if assigned else f"{where}{text}"


def dotted(loc: Sequence[str | int], data: Any) -> str:
    """Join the parts of a location, without those that pydantic adds for union members."""
    parts: list[str] = []
    for i, part in enumerate(loc):
        inside = isinstance(data, dict) and part in data
        inside = inside or (isinstance(data, list | tuple) and isinstance(part, int))
        if inside:
            data = data[part] if isinstance(data, dict) or part < len(data) else None  # type: ignore[operator, index]
        elif i < len(loc) - 1 or not isinstance(data, dict) or "=" in str(part):
            continue
        parts.append(str(part))
    return ".".join(parts)


def origin_of(key: str, origins: Mapping[str, str]) -> str | None:
    """Find the origin of a key, or of something inside it, or of the group that contains it."""
    below = (k for k in origins if k.startswith(f"{key}."))
    parts = key.split(".")
    above = (".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
    return next((origins[k] for k in (key, *below, *above) if k in origins), None)


def _nearest(key: str, keys: Sequence[str]) -> str:
    found = nearest_key(key, keys)
    return f"did you mean {found!r}?" if found else f"valid keys: {', '.join(keys)}"


def short(value: Any) -> str:
    """Write a value as JSON, cut at 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


_LEGAL = {
    "int_type": "must be a whole number, e.g. 3",
    "int_from_float": "must be a whole number, e.g. 3",
    "int_parsing": "must be a whole number, e.g. 3",
    "float_type": "must be a number, e.g. 0.5",
    "float_parsing": "must be a number, e.g. 0.5",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": 'must be text; put it in quotes, e.g. "adam"',
    "list_type": "must be a list, e.g. [512, 512]",
    "tuple_type": "must be a list, e.g. [512, 512]",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be one of {expected}",
    "too_short": "must have at least {min_length} entries, has {actual_length}",
    "too_long": "must have at most {max_length} entries, has {actual_length}",
    "string_too_short": "must have at least {min_length} characters",
    "none_required": "must not be given",
}
