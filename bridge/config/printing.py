"""A config as a TOML file: every setting with its meaning, legal values and value."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from bridge.config.base import idle_keys
from bridge.config.describing import (
    choosing_keys,
    default_text,
    legal_values,
    meanings,
    members_of,
    one_of,
    sentence,
    toml_key,
    toml_value,
)

_WIDTH = 100


def config_toml(config: BaseModel) -> str:
    """Write a config as TOML that `load_config` reads back as an equal config.

    Above each value are its meaning and its legal values. A setting that is not set, or has no
    effect under the others, is commented out; in the latter case with the reason.
    """
    idle = dict(idle_keys(config))
    return "\n".join(_table(config, "", idle)).strip() + "\n"


def _table(
    config: BaseModel,
    prefix: str,
    idle: Mapping[str, str],
    chosen: Mapping[str, list[str]] = MappingProxyType({}),
) -> Iterator[str]:
    """Give the lines of a config; `chosen` has the values of the keys that select it."""
    meaning_of = meanings(type(config))
    nested: list[tuple[str, BaseModel, dict[str, list[str]]]] = []
    for name, field in type(config).model_fields.items():
        value: Any = getattr(config, name)
        if isinstance(value, BaseModel):
            members = members_of(field)
            nested.append((name, value, choosing_keys(members) if len(members) > 1 else {}))
            continue
        default, legal = default_text(field), legal_values(field)
        if name in chosen:
            default, legal = toml_value(chosen[name][0]), one_of(chosen[name]).text
        default_note = "required" if default == "required" else f"default: {default}"
        yield from _comment(sentence(meaning_of.get(name, name)))
        yield from _comment(f"{default_note}; {legal}")
        why = _why(prefix + name, idle)
        if why is not None:
            yield from _comment(f"It has no effect {why}")
        value = config.model_dump(mode="json", include={name})[name]
        if value is None:
            yield f"# {toml_key(name)} ="
        else:
            yield f"{'# ' if why is not None else ''}{toml_key(name)} = {toml_value(value)}"
        yield ""
    for name, inner, keys in nested:
        yield from _comment(inspect.cleandoc(type(inner).__doc__ or "").partition("\n")[0])
        header = prefix + toml_key(name)
        yield f"{'# ' if _why(prefix + name, idle) is not None else ''}[{header}]"
        yield from _table(inner, f"{header}.", idle, keys)


def _why(key: str, idle: Mapping[str, str]) -> str | None:
    """Say why a key, or a group that contains it, has no effect; None if it has one."""
    parts = key.split(".")
    found = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((idle[each] for each in found if each in idle), None)


def _comment(text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]
