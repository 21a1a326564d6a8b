"""Which estimate of the gradient comes nearest to the true one, by the angle between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.runlog.reader import Run

# What an approximation is told from another by, as far as a table has it.
_IDENTITY = ("estimator", "nudging", "beta", "coordinates")


@dataclass(frozen=True)
class Rank:
    """One approximation of the gradient.

    Args:
        estimator: its name.
        settings: what else tells it from others, e.g. {"beta": 0.01}.
        angle_degrees: mean angle to the true gradient over all checks of all logs.
        smallest: the smallest of these angles.
        largest: the largest.
        checks: how many there are.
    """

    estimator: str
    settings: Mapping[str, Any]
    angle_degrees: float
    smallest: float
    largest: float
    checks: int


def rank_estimators(runs: Sequence[Run]) -> tuple[Rank, ...]:
    """Rank approximations by their mean angle, best first.

    Counts tables with the columns `estimator` and `angle_degrees`; of those with a column
    `parameter` only the rows of "all". Angles that are not finite are left out.
    """
    angles: dict[tuple[tuple[str, Any], ...], list[float]] = {}
    for run in runs:
        for columns in run.tables.values():
            if {"estimator", "angle_degrees"} <= columns.keys():
                for identity, angle in _checks(columns):
                    angles.setdefault(identity, []).append(angle)
    ranks = []
    for identity, given in angles.items():
        settings = dict(identity)
        name = settings.pop("estimator")
        ranks.append(
            Rank(name, settings, float(np.mean(given)), min(given), max(given), len(given))
        )
    return tuple(sorted(ranks, key=lambda rank: rank.angle_degrees))


def _checks(
    columns: Mapping[str, NDArray[Any]],
) -> Iterator[tuple[tuple[tuple[str, Any], ...], float]]:
    keep = np.isfinite(columns["angle_degrees"])
    if "parameter" in columns:
        keep &= columns["parameter"] == "all"
    names = [name for name in _IDENTITY if name in columns]
    listed = [columns[name][keep].tolist() for name in names]
    for *identity, angle in zip(*listed, columns["angle_degrees"][keep].tolist(), strict=True):
        yield tuple(zip(names, identity, strict=True)), angle
