"""The curves in a log, by name: one value per step."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog.reader import Run

_TELLING_APART = ("rank",)
"""Numeric columns that identify what a row belongs to, as choices do."""
_REMARKS = ("reason",)
"""Columns of choices that say what is wrong with a row, rather than what it belongs to."""


@dataclass(frozen=True)
class Curve:
    """One value per step.

    Args:
        steps: strictly increasing.
        values: of the same length; several rows of one step are averaged.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A curve and its origin.

    Args:
        table: its table.
        column: its column.
        keys: what its rows have in common, e.g. {"estimator": "asym-ep", "parameter": "all"}.
        curve: the curve itself.
    """

    table: str
    column: str
    keys: Mapping[str, Any]
    curve: Curve

    @property
    def name(self) -> str:
        """table/column, or table/column[key=value,...]."""
        label = ",".join(f"{key}={value}" for key, value in self.keys.items())
        return f"{self.table}/{self.column}" + (f"[{label}]" if label else "")


def series(run: Run, by: Sequence[str] = ()) -> Iterator[Series]:
    """Give every curve of a run: for each table, numeric column and combination of choices.

    Args:
        run: the run.
        by: additional columns that separate rows by their values, as choices do.
    """
    return series_of(run.tables, by)


def series_of(
    tables: Mapping[str, Mapping[str, NDArray[Any]]], by: Sequence[str] = ()
) -> Iterator[Series]:
    """Give every curve of some tables; see `series`."""
    by = (*_TELLING_APART, *by)
    for table, columns in tables.items():
        taken = ("step", *by)
        numeric = [c for c, v in columns.items() if c not in taken and v.dtype.kind in "ifb"]
        for keys, rows in _combinations(columns, by):
            steps, where = np.unique(columns["step"][rows], return_inverse=True)
            count = np.bincount(where)
            for column in numeric:
                total = np.bincount(where, columns[column][rows].astype(np.float64))
                yield Series(table, column, keys, Curve(steps, total / count))


def curves(run: Run) -> dict[str, Curve]:
    """Give every curve of a run by its name "table/column".

    A table with columns of choices has one curve for each combination that occurs, named
    "table/column[estimator=asym-ep,parameter=all]".
    """
    return {each.name: each.curve for each in series(run)}


def plain_names(curves: Mapping[str, Curve]) -> list[str]:
    """List the curves of tables without choices."""
    return [name for name in curves if "[" not in name]


def match(name: str, curves: Mapping[str, Curve], where: object) -> list[str]:
    """Find the curves that a user means by a name.

    Args:
        name: the full name of a curve; or "table/column" for all its combinations; or "column" for
            that column of the first table that has it.
        curves: those of a log.
        where: the log, for the message.

    Raises:
        InputError: the log has no such curve; names the nearest.
    """
    if name in curves:
        return [name]
    stems = {full: full.partition("[")[0] for full in curves}
    for stem in stems.values():
        if name in (stem, stem.partition("/")[2]):
            return [full for full, each in stems.items() if each == stem]
    short = {stem.partition("/")[2]: stem for stem in reversed(stems.values())}
    close = difflib.get_close_matches(name, [*short, *short.values()], 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(short.values())}"
    raise InputError(f"{where}: no metric {name!r}; {hint}")


def _combinations(
    columns: Mapping[str, NDArray[Any]], by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_]]]:
    choices = [
        name
        for name, values in columns.items()
        if (values.dtype.kind == "U" and name not in _REMARKS) or name in by
    ]
    n = len(columns["step"])
    if not choices:
        yield {}, np.ones(n, np.bool_)
        return
    # NaN marks a setting that does not apply; it is unequal to itself, but one combination here
    rows = [
        tuple(map(repr, row)) for row in zip(*(columns[c].tolist() for c in choices), strict=True)
    ]
    first = {row: i for i, row in reversed(list(enumerate(rows)))}
    for row, i in sorted(first.items(), key=lambda each: each[1]):
        keys = {name: columns[name][i].item() for name in choices}
        yield keys, np.array([each == row for each in rows], np.bool_)


def common_steps(given: Sequence[Curve]) -> NDArray[np.int64]:
    """Give the steps that all curves have."""
    steps = given[0].steps
    for curve in given[1:]:
        steps = np.intersect1d(steps, curve.steps, assume_unique=True)
    return steps


def at(curve: Curve, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give a curve's values at the given steps, all of which it must have."""
    return curve.values[np.searchsorted(curve.steps, steps)]
