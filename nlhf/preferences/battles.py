"""Battles: pairwise comparisons and their outcomes, the input of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nlhf.errors import InputError
from nlhf.preferences.base import Preferences

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Battles:
    """Comparisons as read; each row is one battle, or a tally of several.

    Attributes:
        name: name of the source.
        layout: description of the layout as which the source was read.
        items: names of the K items.
        first, second: indices of the two items of each row, [R].
        won, lost, tied: battles that the first item won, lost and tied, [R].
        columns: the other columns of the rows, by name.
        context: name of the column with the context of each row, if there is one.
        ordered: whether the first item is known to have been shown first.
        sequence: whether rows are single battles in chronological order.
        ballot: index of the ballot that a row belongs to, [R], if rows come from ballots.
        times: how often each ballot was cast; its rows count that often.
        shares: win probabilities [K, K] where numbers of battles are unknown; there are no rows.
        notes: remarks that a reader must know, one per line.
    """

    name: str
    layout: str
    items: tuple[str, ...]
    first: Indices
    second: Indices
    won: Numbers
    lost: Numbers
    tied: Numbers
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    context: str | None = None
    ordered: bool = False
    sequence: bool = False
    ballot: Indices | None = None
    times: Numbers | None = None
    shares: Numbers | None = None
    notes: tuple[str, ...] = ()

    @property
    def weight(self) -> Numbers:
        """The multiplicity of each row, [R]."""
        if self.ballot is None or self.times is None:
            return np.ones(len(self.first))
        return self.times[self.ballot]

    @property
    def total(self) -> float:
        """The number of battles."""
        return float(((self.won + self.lost + self.tied) * self.weight).sum())

    @property
    def ties(self) -> float:
        """The number of ties."""
        return float((self.tied * self.weight).sum())

    def groups(self, by: Sequence[str] = ()) -> tuple[tuple[str, ...], Indices]:
        """Split rows by the values of columns; by default, by the context.

        Returns:
            The names of the groups in order of occurrence, and the group of each row, [R].

        Raises:
            InputError: there is no such column, or a value in it is empty.
        """
        chosen = list(by) or ([self.context] if self.context else [])
        for name in chosen:
            column_of(self, name)
        if not chosen:
            return ("all",), np.zeros(len(self.first), dtype=np.int64)
        values = list(zip(*(self.columns[name] for name in chosen), strict=True))
        numbers: dict[tuple[str, ...], int] = {}
        group = np.fromiter(
            (numbers.setdefault(value, len(numbers)) for value in values), np.int64, len(values)
        )
        return tuple(", ".join(value) for value in numbers), group

    def tallies(
        self, rows: NDArray[np.int64] | NDArray[np.bool_] | None = None
    ) -> tuple[Numbers, Numbers]:
        """Count wins of i over j, [K, K], and ties of i and j, [K, K] symmetric, over some rows."""
        k = len(self.items)
        wins, ties = np.zeros((k, k)), np.zeros((k, k))
        keep = slice(None) if rows is None else rows
        i, j, weight = self.first[keep], self.second[keep], self.weight[keep]
        np.add.at(wins, (i, j), self.won[keep] * weight)
        np.add.at(wins, (j, i), self.lost[keep] * weight)
        np.add.at(ties, (i, j), self.tied[keep] * weight)
        return wins, ties + ties.T

    def preferences_of(self, rows: Indices, smoothing: float = 0.0) -> Numbers:
        """The win probabilities of some rows, [K, K]."""
        wins, ties = self.tallies(rows)
        return frequencies(wins + ties / 2, smoothing).numpy()

    def preferences(self, smoothing: float = 0.0) -> Preferences:
        """Build the games of all contexts: (wins + ties / 2 + s) / (battles + 2 s).

        A pair that was never compared in a context counts as even, P = 1/2, and is reported.

        Args:
            smoothing: s, pseudo-votes for each side of every compared pair, >= 0.

        Raises:
            InputError: a negative smoothing.
        """
        check_smoothing(smoothing)
        names, group = self.groups()
        if self.shares is not None:
            names = (Path(self.name).stem,)
            missing = _missing(names, self.items, np.isnan(self.shares)[None])
            P = game(np.nan_to_num(self.shares, nan=0.5))
            return Preferences(self.name, names, self.items, P[None], None, missing)
        wins = np.zeros((len(names), len(self.items), len(self.items)))
        for c in range(len(names)):
            of_context, ties = self.tallies(group == c)
            wins[c] = of_context + ties / 2
        counts = wins + wins.swapaxes(1, 2)
        compared = counts > 0
        occurs = np.zeros((len(names), len(self.items)), dtype=bool)
        occurs[group, self.first] = occurs[group, self.second] = True
        apart = ~compared & occurs[:, :, None] & occurs[:, None, :]
        P = frequencies(wins, smoothing)
        return Preferences(
            self.name,
            names,
            self.items,
            P,
            torch.from_numpy(counts),
            _missing(names, self.items, apart),
        )


def check_smoothing(smoothing: float) -> None:
    """Raise unless the value is a valid number of pseudo-votes."""
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise InputError(f"smoothing={smoothing} must be a number of pseudo-votes >= 0")


def column_of(battles: Battles, name: str) -> Sequence[str]:
    """Get a column by name.

    Raises:
        InputError: there is no such column, or a row has no value in it.
    """
    if name not in battles.columns:
        others = ", ".join(battles.columns) or "no other columns"
        raise InputError(f"{battles.name}: no column {name!r} to group by; there are {others}")
    values = battles.columns[name]
    empty = next((i for i, value in enumerate(values) if value == ""), None)
    if empty is not None:
        raise InputError(f"{battles.name}: row {empty + 1} has nothing in column {name!r}")
    return values


def frequencies(wins: Numbers, smoothing: float = 0.0) -> torch.Tensor:
    """Win probabilities from wins with ties as halves, [..., K, K]; 1/2 without battles."""
    total = wins + wins.swapaxes(-1, -2)
    compared = total > 0
    share = (wins + smoothing * compared) / np.maximum(total + 2 * smoothing * compared, 1e-300)
    return game(np.where(compared, share, 0.5))


def game(P: Numbers) -> torch.Tensor:
    """Make P + P^T = 1 exact, based on the upper triangle."""
    upper = torch.from_numpy(np.ascontiguousarray(P)).double().triu(1)
    half = 0.5 * torch.eye(P.shape[-1], dtype=torch.float64)
    return upper + (1 - upper.mT).tril(-1) + half


def _missing(
    contexts: tuple[str, ...], items: tuple[str, ...], apart: NDArray[np.bool_]
) -> tuple[tuple[str, str, str], ...]:
    found = np.argwhere(np.triu(apart, 1)).tolist()
    return tuple((contexts[c], items[i], items[j]) for c, i, j in found)
