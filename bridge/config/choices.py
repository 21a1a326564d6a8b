"""Choices that own their settings: unions of configs, selected by a key such as "name"."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    Discriminator,
    PlainValidator,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

UNKNOWN = "unknown choice of "
"""First part of the kind of the validation error for an unknown choice; the key follows."""
UNKNOWN_TEXT = "unknown; use one of "
"""First part of its message; the names follow."""
_PLAIN = (bool, int, float, str, types.NoneType)


Make = Callable[[Any], type[BaseModel]]


class Others:
    """Configs for names that a choice does not list, each made on demand.

    Attributes:
        base: the common base of these configs.
        last: the newest config, whose keys count among those of the choice.
    """

    def __init__(self, key: str, default: str, base: type[BaseModel], make: Make) -> None:
        """Set the function that makes a name's config; it raises a ValueError of one line."""
        self.key, self.default, self.base, self.make = key, default, base, make
        self.last: type[BaseModel] = base

    def __call__(self, value: Any, info: ValidationInfo) -> BaseModel:
        """Validate data against the config of its name."""
        if isinstance(value, self.base):
            return value
        named = value.get(self.key, self.default) if isinstance(value, dict) else value
        try:
            model = self.last = self.make(named)
        except ValueError as error:
            text: Any = str(error)
            if " is unknown; " in text:  # the name is already in front of it
                text = "unknown; " + text.partition(" is unknown; ")[2]
            kind: Any = UNKNOWN + self.key
            raise PydanticCustomError(kind, text) from None
        if info.mode == "json":
            # the strict rules of JSON mode: a list is accepted as a tuple
            return model.model_validate_json(json.dumps(value), strict=True, context=info.context)
        return model.model_validate(value, context=info.context)


def choice(key: str, default: str, members: Mapping[str, Any], others: Others | None = None) -> Any:
    """Make the type of a config whose other settings depend on the value of one key.

    Args:
        key: the key; it may be left out.
        default: its value if it is left out.
        members: by name, the config that it selects, or another `choice`.
        others: handles other names; by default they are refused.
    """

    def tag(value: Any) -> str:
        named = value.get(key, default) if isinstance(value, dict) else getattr(value, key, default)
        known = others is None or (isinstance(named, str) and named in members)
        return f"{key}={named}" if known else f"{key}="

    tagged = [Annotated[member, Tag(f"{key}={name}")] for name, member in members.items()]
    if others is not None:
        whatever = Annotated[SerializeAsAny[others.base], PlainValidator(others), others]
        tagged.append(Annotated[whatever, Tag(f"{key}=")])
    discriminator = Discriminator(
        tag,
        # such an error has no location for the key itself
        custom_error_type=UNKNOWN + key,
        custom_error_message=f"{UNKNOWN_TEXT}{', '.join(members)}",
    )
    return Annotated[Union[tuple(tagged)], discriminator]  # noqa: UP007


def owned(
    kind: Any, base: type[BaseModel], key: str, name: str, leave_out: Collection[str] = ()
) -> type[Any]:
    """Derive the config of one choice from its class: its plain fields become settings.

    The class itself checks the ranges: it is constructed once with the given values.

    Args:
        kind: a dataclass; its fields of numbers, texts and booleans become keys. For an instance of
            one, its values are the defaults.
        base: the common base of all choices.
        key: selects the choice, see `choice`.
        name: of this choice.
        leave_out: fields that are set in another way.
    """
    settings = plain_fields(kind, leave_out)
    made: Any = kind if inspect.isclass(kind) else type(kind)

    instance: Any = kind

    def check(config: Any) -> Any:
        given = {each: getattr(config, each) for each in settings}
        made(**given) if kind is made else dataclasses.replace(instance, **given)
        return config

    fields: dict[str, Any] = {key: (Literal[name], name), **settings}
    checks: dict[str, Any] = {"_check_ranges": model_validator(mode="after")(check)}
    config = create_model(
        f"{made.__name__}Settings",
        __base__=base,
        __doc__=made.__doc__,
        __validators__=checks,
        **fields,
    )
    return described_by(config, made)


def described_by(config: type[Any], *found: Any) -> type[Any]:
    """Let classes and functions explain the settings of a config; return the config."""
    config.described_by = (*found, *getattr(config, "described_by", ()))
    return config


def plain_fields(kind: Any, leave_out: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Find a dataclass's fields of numbers, texts and booleans: type and default by name."""
    made: Any = kind if inspect.isclass(kind) else type(kind)
    hints = get_type_hints(made, include_extras=True)
    found = {}
    for field in dataclasses.fields(made):
        if field.name not in leave_out and is_plain(hints[field.name]):
            default = field.default if kind is made else getattr(kind, field.name)
            found[field.name] = (hints[field.name], ... if default is MISSING else default)
    return found


def leaves(annotation: Any) -> list[type[BaseModel]]:
    """Find the configs that a field can hold, including those inside unions and choices."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        built = [each.last for each in more if isinstance(each, Others)]
        return [*built, *leaves(inner)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in leaves(part)]
    return []


def names(model: type[BaseModel]) -> dict[str, Any]:
    """Find the keys that identify a choice's config: those with a single legal value."""
    found = {}
    for key, field in model.model_fields.items():
        legal = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(legal) == 1:
            found[key] = legal[0]
    return found


def is_plain(hint: Any) -> bool:
    """Whether a type consists only of numbers, texts and booleans."""
    if get_origin(hint) is Annotated:
        return is_plain(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return all(map(is_plain, get_args(hint)))
    return hint in _PLAIN
