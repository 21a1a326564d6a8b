"""Build a config: defaults < TOML file < flags < --set, with every mistake reported at once."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bridge.config.base import LOADING, idle_keys
from bridge.config.keys import flatten, valid_keys, why_idle
from bridge.config.mistakes import dotted, explain, no_effect, short
from bridge.errors import InputError

_MOST_BYTES = 2**24
_SHORT_FLOAT = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")


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
    """Build a config: the model's defaults, overridden by a TOML file, flags, then `--set`.

    Types are strict: `epochs = "5"` and `epochs = 5.0` are not integers. An integer is accepted as
    a float.

    Args:
        model: the class to build, a `Config` or another pydantic model.
        toml: a TOML file; its tables are the nested configs.
        flags: values from the command line, with dotted keys for nested configs ("a.b"); None and
            an empty tuple mean that the flag was not given.
        sets: "key=value" strings; the value is parsed as TOML, or else taken as text. A table is
            merged into the existing one; an empty table replaces it.
        base: replaces the model's defaults, e.g. the config of a log. Its settings without effect
            are ignored: logs of earlier versions have all keys.
        base_name: the origin of `base`.

    Returns:
        The config.

    Raises:
        InputError: all mistakes at once, one line each, with the origin of the value and what is
            legal; for an unknown key also the nearest valid one, and for a setting without effect
            the choice that would read it.
    """
    problems: list[str] = []
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    moved: Mapping[str, str] = getattr(model, "moved", {})
    if base is not None:
        _merge(data, _as_now(base, moved), base_name, origins)
    if toml is not None:
        _merge(data, _as_now(_read_toml(Path(toml), problems), moved), str(toml), origins)
        if problems:
            raise InputError(*problems)
    for name, value in (flags or {}).items():
        if value is not None and value != ():
            # on the command line a choice is called by the name of its group
            named = name.removesuffix(".name").rpartition(".")[2]
            flag = "--" + named.replace("_", "-")
            _put(data, name, value, flag, origins, problems)
    for text in sets:
        key, equals, raw = text.partition("=")
        origin = " ".join(["--set", *text.split()])
        if not equals or not key.strip():
            problems.append(f"{origin}: write --set key=value")
            continue
        key = moved.get(key.strip(), key.strip())
        _put(data, key, _toml_value(raw.strip()), origin, origins, problems)
    return _validate(model, data, origins, problems, None if base is None else base_name)


def config_json(config: BaseModel | Mapping[str, Any]) -> str:
    """Write a config as JSON with sorted keys, so that equal configs give equal text."""
    data = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    return json.dumps(data, sort_keys=True, allow_nan=False)


def decisive_json(config: BaseModel) -> str:
    """Write the settings that a run's numbers depend on as JSON: without the operational ones."""
    data = config.model_dump(mode="json")
    for key in getattr(config, "operational", ()):
        *parents, leaf = key.split(".")
        group: Any = data
        for part in parents:
            group = group.get(part, {})
        group.pop(leaf, None)
    return config_json(data)


def config_sha256(config: BaseModel | Mapping[str, Any]) -> str:
    """Hash a config: sha256 of `config_json`, in hexadecimal."""
    return hashlib.sha256(config_json(config).encode()).hexdigest()


def keys_in(path: Path) -> set[str]:
    """Give the top-level keys of a config file; none if it is not readable as one."""
    return set(_read_toml(path, []))


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


def _as_now(given: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    """Rename the keys of earlier versions to the present ones."""
    now: dict[str, Any] = {k: v for k, v in given.items() if k not in moved}
    for key in given.keys() & moved.keys():
        group, _, leaf = moved[key].partition(".")
        now[group] = {leaf: given[key], **now.get(group, {})}
    return now


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
    model: type[C],
    data: dict[str, Any],
    origins: dict[str, str],
    problems: list[str],
    base_name: str | None,
) -> C:
    nul = [
        f"{key}={short(value)}: has a NUL character; no name can hold it"
        for key, value in flatten(data).items()
        if any("\0" in text for text in _texts([key, value]))
    ]
    if nul:
        # most of its keys are wrong for other reasons too: reported once
        raise InputError(*problems, *nul)
    config, mistakes = _tried(model, data)
    # when a key has gone, the other members of its union are checked again
    while _forget_idle(model, data, mistakes, origins, base_name):
        config, mistakes = _tried(model, data)
    keys = valid_keys(model)
    lines = [explain(each, model, data, origins, keys) for each in mistakes]
    if config is not None:
        flat = flatten(data)
        lines += [
            no_effect(key, why, data, origins)
            for key, why in idle_keys(config)
            if any(
                (k == key or k.startswith(f"{key}."))
                and (base_name is None or origins.get(k) != base_name)
                for k in flat
            )
        ]
    problems += [line for line in dict.fromkeys(lines) if line not in problems]
    if problems or config is None:
        raise InputError(*problems)
    return config


def _tried(model: type[C], data: Mapping[str, Any]) -> tuple[C | None, list[Any]]:
    """Give the config, or its mistakes."""
    text = json.dumps(data, default=str)
    try:
        # Strict JSON mode distinguishes 5 from "5" and 5.0, and still accepts a list as a tuple.
        return model.model_validate_json(text, strict=True, context={LOADING: True}), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _forget_idle(
    model: type[BaseModel],
    data: dict[str, Any],
    mistakes: Sequence[Any],
    origins: dict[str, str],
    base_name: str | None,
) -> bool:
    """Remove from `data` what the base has but only another choice reads; say if there was any."""
    found = False
    for each in mistakes if base_name is not None else ():
        key = dotted(each["loc"], data)
        if each["type"] != "extra_forbidden" or not why_idle(model, key, data):
            continue
        inside = [k for k in origins if k == key or k.startswith(f"{key}.")]
        of_base = [k for k in inside if origins[k] == base_name]
        for k in of_base:
            del origins[k]  # what remains is reported with its origin
        if inside and len(of_base) == len(inside):
            *parents, leaf = key.split(".")
            group = data
            for part in parents:
                group = group[part]
            group.pop(leaf, None)
            found = True
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
