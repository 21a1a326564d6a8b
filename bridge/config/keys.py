"""The keys of a config model: all of them, and which choice reads a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from bridge.config.choices import leaves, names


def valid_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List every key of a config, nested ones dotted, in the order of definition."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        nested = leaves(field.annotation)
        if nested:
            for inner in nested:
                keys += [k for k in valid_keys(inner, f"{prefix}{name}.") if k not in keys]
        else:
            keys.append(prefix + name)
    return keys


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested config to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def why_idle(model: type[BaseModel], key: str, data: Mapping[str, Any]) -> str | None:
    """Say why a key has no effect if another choice would read it; None if no choice would.

    Args:
        model: the model of the whole config.
        key: dotted.
        data: the given values.

    Returns:
        The continuation of "has no effect ".
    """
    *parents, leaf = key.split(".")
    models, given, default = [model], data, None
    for i, part in enumerate(parents):
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        default = fields[0].default if i == 0 and fields else getattr(default, part, None)
        models = [each for field in fields for each in leaves(field.annotation)]
        inner = given.get(part)
        given = inner if isinstance(inner, Mapping) else {}
    prefix = "".join(part + "." for part in parents)
    here: dict[str, Any] = {}
    users: dict[str, list[str]] = {}
    for user in (each for each in models if leaf in each.model_fields):
        now = {name: given.get(name, getattr(default, name, None)) for name in names(user)}
        needed = {n: v for n, v in names(user).items() if now[n] != v and n != leaf}
        here |= {name: now[name] for name in needed}
        *others, last = needed.items() or [("", "")]
        text = "".join(f"{prefix}{name}={value} and " for name, value in others)
        values = users.setdefault(f"{text}{prefix}{last[0]}=", [])
        if needed and str(last[1]) not in values:
            values.append(str(last[1]))
    ways = [f"{start}{either(values)}" for start, values in users.items() if values]
    if not ways:
        return None
    settings = " and ".join(f"{prefix}{name}={value}" for name, value in here.items())
    return f"with {settings}; it is read with {either(ways)}"


def either(texts: list[str]) -> str:
    """Join texts as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
