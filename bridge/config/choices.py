"""Choices that own their settings: unions of configs, told apart by a key such as "name"."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Discriminator, Tag, create_model, model_validator

UNKNOWN = "unknown choice of "
"""How the kind of the validation error begins where a key names no choice; the key follows."""
UNKNOWN_TEXT = "unknown; use one of "
"""How its message begins; the names follow."""
_PLAIN = (bool, int, float, str, types.NoneType)


def choice(key: str, default: str, members: Mapping[str, Any]) -> Any:
    """Make the type of a config whose other settings depend on what one key names.

    Args:
        key: the key; may be left out.
        default: what it names then.
        members: by name the config that it means, or another `choice`.
    """

    def tag(value: Any) -> str:
        named = value.get(key, default) if isinstance(value, dict) else getattr(value, key, default)
        return f"{key}={named}"

    tagged: tuple[Any, ...] = tuple(
        Annotated[member, Tag(f"{key}={name}")] for name, member in members.items()
    )
    told = Discriminator(
        tag,
        # such an error has no place of its own for the key
        custom_error_type=UNKNOWN + key,
        custom_error_message=f"{UNKNOWN_TEXT}{', '.join(members)}",
    )
    return Annotated[Union[tagged], told]  # noqa: UP007


def owned(
    kind: type, base: type[BaseModel], key: str, name: str, leave_out: Collection[str] = ()
) -> type[Any]:
    """Make the config of one choice out of its class: its plain fields are its settings.

    The ranges are checked by the class itself, which is made once with what was given.

    Args:
        kind: a dataclass; its fields of numbers, texts and truth values become keys.
        base: what all choices have.
        key: names the choice, see `choice`.
        name: of this one.
        leave_out: fields that are set in another way.
    """
    settings = plain_fields(kind, leave_out)

    def check(config: Any) -> Any:
        kind(**{each: getattr(config, each) for each in settings})
        return config

    fields: dict[str, Any] = {key: (Literal[name], name), **settings}
    checks: dict[str, Any] = {"_check_ranges": model_validator(mode="after")(check)}
    return create_model(
        f"{kind.__name__}Settings",
        __base__=base,
        __doc__=kind.__doc__,
        __validators__=checks,
        **fields,
    )


def plain_fields(kind: type, leave_out: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Find a dataclass's fields of numbers, texts and truth values: type and default by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name: (hints[field.name], field.default)
        for field in dataclasses.fields(kind)
        if field.name not in leave_out and _is_plain(hints[field.name])
    }


def leaves(annotation: Any) -> list[type[BaseModel]]:
    """Find the configs that a field can hold, those inside unions and choices among them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return leaves(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in leaves(part)]
    return []


def names(model: type[BaseModel]) -> dict[str, Any]:
    """Find what a choice's config is known by: its keys that can have one value only."""
    found = {}
    for key, field in model.model_fields.items():
        legal = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(legal) == 1:
            found[key] = legal[0]
    return found


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _is_plain(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return all(map(_is_plain, get_args(hint)))
    return hint in _PLAIN
