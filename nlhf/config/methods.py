"""The settings that belong to one method: found in its class, given as method.NAME."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import create_model

from bridge.config import Config, described_by, either, plain_fields

Kinds = Mapping[str, type[Any]]


def method_config(kinds: Kinds, common: Collection[str]) -> type[Config]:
    """Make the config of all settings that methods have of their own.

    Args:
        kinds: the methods' classes by name, dataclasses.
        common: fields that are set in another way.

    Returns:
        A config whose keys are the fields of numbers and texts of all of them; None, the default,
        leaves a setting to the method.
    """
    made: dict[str, Any] = {}
    for kind in kinds.values():
        for name, (hint, _) in plain_fields(kind, common).items():
            made.setdefault(name, (hint | None, None))
    doc = "Settings of single methods; see the method's class."
    config = create_model("MethodConfig", __base__=Config, __doc__=doc, **made)
    return described_by(config, *kinds.values())


def method_settings(config: Any) -> dict[str, Any]:
    """The settings of a method that were given, by field."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return {name: value for name, value in values.items() if value is not None}


def idle_settings(config: Any, chosen: str, kinds: Kinds) -> dict[str, str]:
    """Which settings the chosen method has not, and why; see `Config.idle`."""
    return {
        f"method.{name}": not_read(chosen, readers(kinds, name))
        for name in type(config).model_fields
        if chosen not in readers(kinds, name)
    }


def readers(kinds: Kinds, field: str) -> list[str]:
    """The methods that have a field."""
    return [n for n, kind in kinds.items() if field in {f.name for f in dataclasses.fields(kind)}]


def not_read(chosen: str, users: Collection[str]) -> str:
    """Why a setting does nothing with the algorithm chosen."""
    return f"with algorithm={chosen}; it is read with algorithm={either(list(users))}"
