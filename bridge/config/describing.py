"""The meaning of a config's settings, their legal values, and the choices that read them.

Each meaning is written once: in the section "Attributes" (or "Args") of the docstring of the
config, or of the class whose settings the config holds.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge.config.choices import leaves, names

_SECTION = re.compile(r"^(?:Attributes|Args):\n((?:(?:    .*)?\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*):\s+(.*(?:\n {8,}.*)*)", re.MULTILINE)
_BOUNDS = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= ", "multiple_of": "a multiple of "}
_SYMBOLS = {"beta", "d", "eta", "h", "mu", "n", "o", "pi", "r", "rho", "tau", "theta"}
_KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Legal:
    """Describes, inside `Annotated`, the values that a custom validator accepts.

    Attributes:
        text: a phrase, such as "one of asym-ep, vector-field; or module:Class".
    """

    text: str


def one_of(names: Iterable[str]) -> Legal:
    """Say that a value is one of these names."""
    return Legal(f"one of {', '.join(names)}")


@dataclass(frozen=True)
class Setting:
    """One setting of a config.

    Attributes:
        key: dotted.
        default: as TOML; "required" if there is none, "not set" if it is None.
        legal: the accepted values, as a phrase.
        meaning: the effect of the setting, from a docstring.
        readers: the choices that read it, such as "estimator.name=asym-ep"; empty if all do.
    """

    key: str
    default: str
    legal: str
    meaning: str
    readers: tuple[str, ...] = ()


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """List every setting of a config, including nested ones (dotted) and those of every choice.

    Args:
        model: the class of the config.

    Returns:
        In the order of definition; a key with different defaults in several choices appears once
            per default.
    """
    return list(_settings(model, ""))


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    meaning_of = meanings(model)
    for name, field in model.model_fields.items():
        members = leaves(field.annotation)
        if not members:
            key = prefix + name
            yield Setting(key, default_text(field), legal_values(field), meaning_of.get(name, ""))
            continue
        yield from _chosen(members_of(field), f"{prefix}{name}.")


def members_of(field: FieldInfo) -> list[type[BaseModel]]:
    """Find the configs that a field can hold, the default's first, without those of user code."""
    kinds = list(dict.fromkeys(leaves(field.annotation)))
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if names(kind)]
    first = type(field.default)
    return sorted(kinds, key=lambda kind: kind is not first)


def _chosen(members: list[type[BaseModel]], prefix: str) -> Iterator[Setting]:
    """List the settings of alternative configs: equal ones once, with their readers."""
    found: dict[Setting, list[str]] = {}
    choosing = {prefix + name: values for name, values in choosing_keys(members).items()}
    for member in members:
        picked = [f"{prefix}{name}={value}" for name, value in names(member).items()]
        for each in _settings(member, prefix):
            if len(members) > 1 and each.key in choosing:
                values = choosing[each.key]
                default = json.dumps(values[0])
                text = one_of(values).text
                found[Setting(each.key, default, text, each.meaning)] = []
                continue
            found.setdefault(each, []).append(" and ".join(picked))
    for each, readers in found.items():
        everyone = not readers or len(readers) == len(members)
        yield Setting(
            each.key, each.default, each.legal, each.meaning, () if everyone else tuple(readers)
        )


def choosing_keys(members: Iterable[type[BaseModel]]) -> dict[str, list[str]]:
    """List the keys that select one of several configs, with their values."""
    found: dict[str, list[str]] = {}
    for member in members:
        for name, value in names(member).items():
            if str(value) not in found.setdefault(name, []):
                found[name].append(str(value))
    return found


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Find the meaning of each setting of a config.

    Returns:
        By name, the text of a docstring: the config's own comes first, then those of its bases,
            then those of the classes in `Config.described_by`.
    """
    found: dict[str, str] = {}
    for described in reversed(getattr(model, "described_by", ())):
        found |= docstring_meanings(described)
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel):
            found |= _meanings_in(each.__dict__.get("__doc__"))
    return {name: text for name, text in found.items() if name in model.model_fields}


def docstring_meanings(described: Any) -> dict[str, str]:
    """Find the meanings in the docstrings of a class, its bases and `__init__`, or of a function.

    Returns:
        By attribute or argument, its text; a class's own takes precedence over that of its bases.
    """
    found: dict[str, str] = {}
    kinds = inspect.getmro(described) if inspect.isclass(described) else (described,)
    for each in reversed(kinds):
        if each is not object:
            found |= _meanings_in(
                vars(each).get("__doc__") if inspect.isclass(each) else each.__doc__
            )
            found |= _meanings_in(getattr(vars(each).get("__init__"), "__doc__", None))
    return found


def _meanings_in(doc: str | None) -> dict[str, str]:
    """Parse the meaning of each attribute or argument in a docstring."""
    found = {}
    for section in _SECTION.findall(inspect.cleandoc(doc or "") + "\n"):
        for listed, text in _ENTRY.findall(section):
            found |= dict.fromkeys(listed.split(", "), " ".join(text.split()))
    return found


def sentence(meaning: str) -> str:
    """Capitalise a meaning, unless it starts with a symbol such as rho or C(s, y)."""
    first = meaning.partition(" ")[0]
    word = first.isalpha() and first not in _SYMBOLS
    return meaning[:1].upper() + meaning[1:] if word else meaning


def default_text(field: FieldInfo) -> str:
    """Write a setting's default: as TOML, "required", or "not set" for None."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "not set" if value is None else toml_value(value)


def legal_values(field: FieldInfo) -> str:
    """Describe a setting's legal values, such as "whole number, >= 1; or not set"."""
    return _legal(field.annotation, field.metadata)


def _legal(annotation: Any, metadata: Any = ()) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _legal(args[0], (*args[1:], *metadata))
    for each in metadata:
        if isinstance(each, Legal):
            return each.text
    if origin in (Union, types.UnionType):
        rest = [arg for arg in args if arg is not types.NoneType]
        text = " or ".join(_legal(arg, metadata) for arg in rest)
        return text if len(rest) == len(args) else f"{text}; or not set"
    if origin is Literal:
        values = ", ".join(json.dumps(arg).strip('"') for arg in args)
        return f"one of {values}" if len(args) > 1 else values
    if origin in (tuple, list):
        inner = [arg for arg in args if arg is not ...]
        if len(inner) > 1:
            return f"list of {len(inner)}: {', '.join(_legal(arg) for arg in inner)}"
        return f"list, each {_legal(inner[0])}" if inner else "list"
    if origin is dict or annotation is dict:
        return f"table of names, each {_legal(args[1])}" if args else "table"
    return ", ".join([_KINDS.get(annotation, "any value"), *_bounds(metadata)])


def _bounds(metadata: Any) -> list[str]:
    found = []
    for each in metadata:
        inner = getattr(each, "metadata", [each])  # those of a Field inside Annotated
        for bound in inner:
            for name, sign in _BOUNDS.items():
                if (value := getattr(bound, name, None)) is not None:
                    found.append(f"{sign}{value:g}")
    return found


def toml_value(value: Any) -> str:
    """Write a value as TOML: tables inline, texts in quotes.

    Raises:
        TypeError: TOML cannot represent it; None is such a value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        inside = [f"{toml_key(key)} = {toml_value(each)}" for key, each in value.items()]
        return f"{{ {', '.join(inside)} }}" if inside else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def toml_key(key: str) -> str:
    """Write a key, in quotes if it has other characters than letters, digits, - and _."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)
