"""The points of a sweep: dicts from config keys to values as text."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Sequence

from bridge.errors import InputError

MAX_RUNS = 10_000
"""The largest number of runs of a sweep."""
_NAME_LENGTH = 80

Point = dict[str, str]


def parse_seeds(text: str) -> list[str]:
    """Parse "0..9" (both ends included), "1,5,7" or "0..3,8".

    Raises:
        InputError: any other text, a repeated seed, or more than MAX_RUNS seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})(?:\.\.(\d{1,18}))?\s*", part, re.ASCII)
        if not found:
            raise InputError(f"--seeds {text}: write whole numbers >= 0, as 0..9 or 0,1,5")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InputError(f"--seeds {text}: {first}..{last} is empty; write {last}..{first}")
        if len(seeds) + last - first >= MAX_RUNS:
            raise InputError(f"--seeds {text}: more than {MAX_RUNS} runs; give fewer seeds")
        seeds += range(first, last + 1)
    return _distinct(f"--seeds {text}", [str(seed) for seed in seeds])


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Parse "key=a,b,c"; a comma inside brackets or quotes does not separate values.

    Raises:
        InputError: there is no key, or a value is empty or repeated.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--sweep {text}: write --sweep key=a,b,c")
    parts, depth, quote = [""], 0, ""
    for sign in values:
        if sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        elif not quote:
            depth += (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    parts = [part.strip() for part in parts]
    if "" in parts:
        raise InputError(f"--sweep {text}: a value is empty; write --sweep key=a,b,c")
    return key.strip(), _distinct(f"--sweep {text}", parts)


def points(seeds: str | None, sweeps: Sequence[str]) -> list[Point]:
    """List every combination of the values; the last key changes fastest, and seeds come last.

    Args:
        seeds: see `parse_seeds`.
        sweeps: see `parse_sweep`.

    Raises:
        InputError: as for those, or a key is repeated, or there are more than MAX_RUNS
            combinations.
    """
    axes = [parse_sweep(text) for text in sweeps]
    if seeds is not None:
        axes.append(("seed", parse_seeds(seeds)))
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--sweep {key}: swept twice; give all its values at once")
    count = math.prod(len(values) for _, values in axes)
    if count > MAX_RUNS:
        raise InputError(f"--sweep: {count} runs are more than {MAX_RUNS}; give fewer values")
    return [
        dict(zip(keys, values, strict=True)) for values in itertools.product(*(v for _, v in axes))
    ]


def point_name(point: Point) -> str:
    """Name a point's files: "tau=0.1,seed=3"; with a hash if the text is not unique.

    No name contains ".h5": NAME is a saved model, NAME.h5 a log, and the two cannot be confused.
    """
    text = ",".join(f"{key}={value}" for key, value in point.items())
    name = re.sub(r"[^A-Za-z0-9._=,+-]|\.(?=h5)", "-", text)
    if name == text and len(name) <= _NAME_LENGTH:
        return name
    return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _distinct(where: str, values: list[str]) -> list[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(f"{where}: {value} is given twice; give each value once")
        seen.add(value)
    return values
