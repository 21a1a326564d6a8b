"""Typed configs: defaults < TOML file < flags < --set, with every mistake reported at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from bridge.errors import InputError

_MOST_BYTES = 2**24
_SHORT_FLOAT = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")


class Config(BaseModel):
    """A frozen set of named, typed values; refuses unknown names, NaN and infinite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )


C = TypeVar("C", bound=BaseModel)


def load_config(
    model: type[C],
    toml: Path | str | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    base_name: str = "",
) -> C:
    """Build a config: the model's defaults, over them a TOML file, flags, then `--set`.

    Types are strict: `epochs = "5"` and `epochs = 5.0` are no whole numbers. A whole number is
    taken where a fraction is asked for.

    Args:
        model: the class to build, a `Config` or another pydantic model.
        toml: a TOML file; its tables are the model's nested configs.
        flags: values from the command line, keys dotted for nested configs ("a.b"); None and an
            empty tuple mean that the flag was not given.
        sets: "key=value" strings; the value is read as TOML, and as bare text where it is none. A
            table adds to what is there; an empty one takes its place.
        base: what stands for the model's defaults, e.g. the config out of a log.
        base_name: where `base` came from.

    Returns:
        The config.

    Raises:
        InputError: one line a mistake, all mistakes at once, each with where the value came from,
            what is legal, and for an unknown key the nearest valid one.
    """
    problems: list[str] = []
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if base is not None:
        _merge(data, base, base_name, origins)
    if toml is not None:
        _merge(data, _read_toml(Path(toml), problems), str(toml), origins)
        if problems:
            raise InputError(*problems)
    for name, value in (flags or {}).items():
        if value is not None and value != ():
            flag = "--" + name.rsplit(".", 1)[-1].replace("_", "-")
            _put(data, name, value, flag, origins, problems)
    for text in sets:
        key, equals, raw = text.partition("=")
        origin = " ".join(["--set", *text.split()])
        if not equals or not key.strip():
            problems.append(f"{origin}: write --set key=value")
            continue
        _put(data, key.strip(), _toml_value(raw.strip()), origin, origins, problems)
    return _validate(model, data, origins, problems)


def config_json(config: BaseModel | Mapping[str, Any]) -> str:
    """Write a config as JSON with sorted keys, so that equal configs give equal text."""
    data = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    return json.dumps(data, sort_keys=True, allow_nan=False)


def config_sha256(config: BaseModel | Mapping[str, Any]) -> str:
    """Hash a config: sha256 of `config_json`, in hexadecimal."""
    return hashlib.sha256(config_json(config).encode()).hexdigest()


def valid_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List every key that a config has, nested ones dotted, in the order of their definition."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        nested = _nested_models(field.annotation)
        if nested:
            for inner in nested:
                keys += [k for k in valid_keys(inner, f"{prefix}{name}.") if k not in keys]
        else:
            keys.append(prefix + name)
    return keys


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Put a nested config's values under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _nested_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for part in get_args(annotation) for m in _nested_models(part)]
    return []


def _read_toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) <= _MOST_BYTES:
            return tomllib.loads(data.decode("utf-8"))
        problems.append(f"{path}: larger than {_MOST_BYTES // 2**20} MiB; this is no config")
    except OSError as error:
        problems.append(f"{path}: cannot read this config: {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"{path}: no TOML: {' '.join(str(error).split())}")
    return {}


def _toml_value(raw: str) -> Any:
    if _SHORT_FLOAT.fullmatch(raw):
        return float(raw)
    try:
        parsed = tomllib.loads(f"v = {raw}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw
    return parsed["v"] if list(parsed) == ["v"] else raw


def _merge(
    data: dict[str, Any],
    new: Mapping[str, Any],
    origin: str,
    origins: dict[str, str],
    prefix: str = "",
) -> None:
    for key, value in new.items():
        origins[prefix + key] = origin
        if isinstance(value, Mapping) and isinstance(data.get(key, {}), dict):
            _merge(data.setdefault(key, {}), value, origin, origins, f"{prefix}{key}.")
        else:
            data[key] = value


def _put(
    data: dict[str, Any],
    dotted: str,
    value: Any,
    origin: str,
    origins: dict[str, str],
    problems: list[str],
) -> None:
    *parents, leaf = dotted.split(".")
    for i, part in enumerate(parents):
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            problems.append(f"{origin}: {'.'.join(parents[: i + 1])} is a value, no group of keys")
            return
    if value == {}:
        data.pop(leaf, None)
    prefix = "".join(part + "." for part in parents)
    _merge(data, {leaf: value}, origin, origins, prefix)


def _validate(
    model: type[C], data: dict[str, Any], origins: dict[str, str], problems: list[str]
) -> C:
    nul = [
        f"{key}={_short(value)}: has a NUL character; no name can hold it"
        for key, value in flatten(data).items()
        if any("\0" in text for text in _texts([key, value]))
    ]
    if nul:
        # wrong for most keys in other ways too: told once
        raise InputError(*problems, *nul)
    try:
        # Strict JSON mode tells 5 from "5" and from 5.0, and still takes a list for a tuple.
        config = model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        keys = valid_keys(model)
        for mistake in error.errors(include_url=False):
            line = _explain(mistake, data, origins, keys)
            if line not in problems:
                problems.append(line)
    else:
        if not problems:
            return config
    raise InputError(*problems)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _explain(
    mistake: Any, data: dict[str, Any], origins: dict[str, str], keys: Sequence[str]
) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    key = _dotted(mistake["loc"], data)
    origin = _origin(key, origins)
    where = f"{origin}: " if origin else ""
    if kind == "extra_forbidden":
        return f"{where}unknown key {key!r}; {_nearest(key, keys)}"
    if kind == "missing":
        return f"{where}{key} is required; give it with --set {key}=VALUE or in the TOML file"
    text = mistake["msg"].removeprefix("Value error, ")
    if kind in _LEGAL:
        text = _LEGAL[kind].format(**context)
    if not key:
        return f"{where}{text}"
    value = _short(mistake["input"])
    if origin and origin.startswith("--"):
        return f"{origin if origin.startswith('--set ') else f'{origin} {value}'}: {text}"
    return f"{where}{key}={value}: {text}"


def _dotted(loc: Sequence[str | int], data: Any) -> str:
    """Join a location's parts, without those that pydantic adds for the members of a union."""
    parts: list[str] = []
    for i, part in enumerate(loc):
        inside = isinstance(data, dict) and part in data
        inside = inside or (isinstance(data, list | tuple) and isinstance(part, int))
        if inside:
            data = data[part] if isinstance(data, dict) or part < len(data) else None  # type: ignore[operator, index]
        elif i < len(loc) - 1 or not isinstance(data, dict):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _origin(key: str, origins: dict[str, str]) -> str | None:
    """Find who gave a key, or else something inside of it, or else the group it stands in."""
    below = (k for k in origins if k.startswith(f"{key}."))
    parts = key.split(".")
    above = (".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
    return next((origins[k] for k in (key, *below, *above) if k in origins), None)


def _nearest(key: str, keys: Sequence[str]) -> str:
    by_leaf = {k.rpartition(".")[2]: k for k in reversed(keys)}
    close = difflib.get_close_matches(key, keys, 1)
    close = close or difflib.get_close_matches(key.rpartition(".")[2], by_leaf, 1)
    if close:
        return f"did you mean {by_leaf.get(close[0], close[0])!r}?"
    return f"valid keys: {', '.join(keys)}"


def _short(value: Any) -> str:
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
