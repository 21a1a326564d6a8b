"""Filter and sort the rows of a list of runs, and find the settings that tell them apart."""

from __future__ import annotations

import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.config import flatten
from bridge.errors import InputError

Row = Mapping[str, Any]
FACTS = (
    "log", "command", "status", "alive", "age", "started", "seconds", "rows", "step", "seed",
    "note", "result", "metric",
)  # fmt: skip
"""What rows can be sorted and filtered by, besides the keys of the configs."""
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"([^=<>!]+)(=|!=|<=|>=|<|>)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A condition on a row.

    Args:
        key: one of FACTS, or a dotted key of the config.
        compare: one of = != < <= > >=.
        value: as the user wrote it.
    """

    key: str
    compare: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse a text such as "status=finished" or "optimizer.learning_rate<0.1".

        Raises:
            InputError: it is not a condition.
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise InputError(f"--filter {text}: write KEY=VALUE, or with != < <= > >=")
        return cls(found[1].strip(), found[2], found[3].strip())

    def holds(self, value: Any) -> bool:
        """Tell whether a value meets the condition; a missing value meets only !=."""
        if value is None:
            return (self.compare == "!=") != (self.value in ("", "null"))
        try:
            wanted = json.loads(self.value)
        except ValueError:
            wanted = self.value
        if not (_is_number(wanted) and _is_number(value)):
            # As they are written: true, [64, 64], a word.
            wanted, value = _text(wanted), _text(value)
        return _COMPARE[self.compare](value, wanted)


def chosen(rows: Iterable[Row], conditions: Sequence[Condition]) -> list[Row]:
    """Give the rows that meet all conditions, in their order.

    Raises:
        InputError: no row has such a key; names the nearest.
    """
    listed = list(rows)
    for each in conditions:
        _require(listed, "--filter", each.key)
    return [row for row in listed if all(c.holds(_value(row, c.key)) for c in conditions)]


def ordered(rows: Iterable[Row], key: str, reverse: bool = False) -> list[Row]:
    """Sort rows by a fact or a setting; rows without it come last.

    Results are sorted by metric, the best first.

    Args:
        rows: the rows.
        key: one of FACTS, or a dotted key of the config.
        reverse: reverse the order; rows without the key still come last.

    Raises:
        InputError: no row has such a key; names the nearest.
    """
    listed = list(rows)
    _require(listed, "--sort", key)
    there = [row for row in listed if _is_there(_value(row, key))]
    there.sort(key=lambda row: _rank(row, key), reverse=reverse)
    if key == "result":
        there.sort(key=lambda row: str(row["metric"]))
    return there + [row for row in listed if not _is_there(_value(row, key))]


def differing(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Give for each row the settings that differ among the rows of its command, the seed last.

    Returns:
        One dict per row, values by dotted key; without keys that the row's config lacks.
    """
    settings = [flatten(row.get("config") or {}) for row in rows]
    commands = [row.get("command") for row in rows]
    keys: dict[Any, list[str]] = {}
    for command in set(commands):
        of_command = [s for s, c in zip(settings, commands, strict=True) if c == command]
        every = dict.fromkeys(key for each in of_command for key in each)
        varying = [key for key in every if _varies(of_command, key)]
        keys[command] = sorted(varying, key=lambda key: key == "seed")
    return [
        {key: each[key] for key in keys[command] if key in each}
        for each, command in zip(settings, commands, strict=True)
    ]


def named(settings: Mapping[str, Any]) -> str:
    """Write settings in words, each by the last part of its key where that is unambiguous."""
    names = short_names(list(settings)).values()
    return ", ".join(f"{n} {short_value(v)}" for n, v in zip(names, settings.values(), strict=True))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten each key to its last part where no other key has the same."""
    ends = [short_key(key) for key in keys]
    return {k: end if ends.count(end) == 1 else k for k, end in zip(keys, ends, strict=True)}


def short_key(key: str) -> str:
    """Give the last part of a key, or the one before if the last is only "name"."""
    *above, last = key.split(".")
    return above[-1] if above and last == "name" else last


def short_value(value: Any) -> str:
    """Write a setting's value in at most 24 characters."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def _varies(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Tell whether configs differ in a key; a config that lacks the key does not count."""
    return len({repr(each[key]) for each in settings if key in each}) > 1


def _require(rows: Sequence[Row], option: str, key: str) -> None:
    settings = dict.fromkeys(k for row in rows for k in flatten(row.get("config") or {}))
    if key in ("state", *FACTS) or key in settings or not rows:
        return
    close = difflib.get_close_matches(key, [*FACTS, *settings], 1)
    leaves = [each for each in settings if each.rpartition(".")[2] == key]
    hint = f"did you mean {[*leaves, *close][0]!r}?" if leaves or close else ""
    hint = hint or f"use one of {', '.join(FACTS)}, or a key of the config"
    raise InputError(f"{option} {key}: no listed run has it; {hint}")


def _value(row: Row, key: str) -> Any:
    if key in ("state", *FACTS):
        return row.get("state" if key == "status" else key)
    return flatten(row.get("config") or {}).get(key)


def _rank(row: Row, key: str) -> tuple[bool, Any]:
    value = _value(row, key)
    if key == "result" and row["better"] == "higher":
        value = -value
    return (False, value) if _is_number(value) else (True, _text(value))


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
