"""Rank what the rows of a table belong to, such as approximations, by the mean of a column."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.headline import Contest
from bridge.runlog.reader import Run

_Identity = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Rank:
    """One contestant.

    Args:
        name: its name.
        settings: what else distinguishes it, e.g. {"beta": 0.01}.
        mean: of the contest's column over all rows of all logs that count.
        smallest: the smallest of these values.
        largest: the largest.
        counted: the number of these rows.
        left_out: the number of further rows that say nothing about the contestant.
    """

    name: str
    settings: Mapping[str, Any]
    mean: float
    smallest: float
    largest: float
    counted: int
    left_out: int


def ranked(runs: Sequence[Run], contest: Contest | None) -> tuple[Rank, ...]:
    """Rank the contestants of all tables that have the contest's columns.

    The smallest mean comes first, and those without a row that counts come last. A row counts if
    its value is finite and its column `contest.valid` (if the table has it) is 1.
    """
    if contest is None:
        return ()
    valid: dict[_Identity, list[float]] = {}
    invalid: dict[_Identity, int] = {}
    for run in runs:
        for columns in run.tables.values():
            if contest.takes(columns):
                for identity, value, is_valid in _rows(columns, contest):
                    valid.setdefault(identity, []).extend([value] * is_valid)
                    invalid[identity] = invalid.get(identity, 0) + (not is_valid)
    ranks = []
    for identity, values in valid.items():
        settings = dict(identity)
        name = settings.pop(contest.of)
        ends = (min(values), max(values)) if values else (math.nan, math.nan)
        mean = statistics.fmean(values) if values else math.nan
        ranks.append(Rank(name, settings, mean, *ends, len(values), invalid[identity]))
    return tuple(sorted(ranks, key=lambda rank: (not rank.counted, rank.mean)))


def _rows(
    columns: Mapping[str, NDArray[Any]], contest: Contest
) -> Iterator[tuple[_Identity, float, bool]]:
    values = columns[contest.by]
    valid = np.isfinite(values)
    if contest.valid in columns:
        valid &= columns[contest.valid] >= 1
    keep = np.ones(len(values), bool)
    if contest.part in columns:
        parts = columns[contest.part]
        keep = parts == contest.whole(parts.tolist())
    names = [name for name in (contest.of, *contest.apart) if name in columns]
    listed = [columns[name][keep].tolist() for name in names]
    for *identity, value, is_valid in zip(
        *listed, values[keep].tolist(), valid[keep].tolist(), strict=True
    ):
        yield tuple(zip(names, identity, strict=True)), value, is_valid
