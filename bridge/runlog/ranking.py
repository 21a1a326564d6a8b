"""Rank gradient estimates by their angle to the true gradient."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.runlog.reader import Run

# Columns that distinguish approximations, as far as a table has them.
_IDENTITY = ("estimator", "nudging", "beta", "coordinates")
_Identity = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Rank:
    """One approximation of the gradient.

    Args:
        estimator: its name.
        settings: what else distinguishes it, e.g. {"beta": 0.01}.
        angle_degrees: mean angle to the true gradient over all checks of all logs.
        smallest: the smallest of these angles.
        largest: the largest.
        checks: the number of checks.
        unconverged: the number of further checks that were left out because one of their phases had
            not converged: such an angle says nothing about the approximation.
    """

    estimator: str
    settings: Mapping[str, Any]
    angle_degrees: float
    smallest: float
    largest: float
    checks: int
    unconverged: int


def rank_estimators(runs: Sequence[Run]) -> tuple[Rank, ...]:
    """Rank approximations by their mean angle, best first; those without a valid check last.

    Uses tables with the columns `estimator` and `angle_degrees`; if they have a column `parameter`,
    only the rows of `overall`. A check is valid if its angle is finite and its `converged` (the
    share of converged rows, if the table has it) is 1.
    """
    valid: dict[_Identity, list[float]] = {}
    invalid: dict[_Identity, int] = {}
    for run in runs:
        for columns in run.tables.values():
            if {"estimator", "angle_degrees"} <= columns.keys():
                for identity, angle, is_valid in _checks(columns):
                    valid.setdefault(identity, []).extend([angle] * is_valid)
                    invalid[identity] = invalid.get(identity, 0) + (not is_valid)
    ranks = []
    for identity, angles in valid.items():
        settings = dict(identity)
        name = settings.pop("estimator")
        ends = (min(angles), max(angles)) if angles else (math.nan, math.nan)
        mean = statistics.fmean(angles) if angles else math.nan
        ranks.append(Rank(name, settings, mean, *ends, len(angles), invalid[identity]))
    return tuple(sorted(ranks, key=lambda rank: (not rank.checks, rank.angle_degrees)))


def overall(parameters: Iterable[Any]) -> str:
    """Choose the value of a column `parameter` for a whole estimate: "feedforward", else "all".

    Some rules give the feedback weights a copy of the feedforward update, which is not an estimate
    of their gradient: over "all", the copies would count as errors of the rule.
    """
    return "feedforward" if "feedforward" in set(parameters) else "all"


def _checks(columns: Mapping[str, NDArray[Any]]) -> Iterator[tuple[_Identity, float, bool]]:
    angles = columns["angle_degrees"]
    valid = np.isfinite(angles)
    if "converged" in columns:
        valid &= columns["converged"] >= 1
    keep = np.ones(len(angles), bool)
    if "parameter" in columns:
        keep = columns["parameter"] == overall(columns["parameter"].tolist())
    names = [name for name in _IDENTITY if name in columns]
    listed = [columns[name][keep].tolist() for name in names]
    rows = zip(*listed, angles[keep].tolist(), valid[keep].tolist(), strict=True)
    for *identity, angle, is_valid in rows:
        yield tuple(zip(names, identity, strict=True)), angle, is_valid
