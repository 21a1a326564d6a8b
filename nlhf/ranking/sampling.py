"""Resampling of battles, ballots or clusters of battles, tallied per cell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nlhf.preferences.battles import Battles, column_of
from nlhf.ranking.bradley_terry import Cells, Numbers

_WON, _LOST, _TIED = 0, 1, 2
_CHUNK = 64


@dataclass(frozen=True)
class Sample:
    """The battles of one context, with one cell per compared pair.

    Attributes:
        cells: the pairs, i < j.
        won, lost, tied: outcomes of i against j, [M].
        units: resampling units, tallied over outcomes of cells, [U, 3 M]; None where each battle is
            its own unit.
        times: multiplicity of each unit, [U].
        clusters: number of clusters or ballots; None where battles are units.
    """

    cells: Cells
    won: Numbers
    lost: Numbers
    tied: Numbers
    units: sparse.csr_matrix | None = None
    times: Numbers | None = None
    clusters: int | None = None

    @property
    def total(self) -> Numbers:
        """Battles per cell, [M]."""
        return self.won + self.lost + self.tied


def make_sample(
    battles: Battles,
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    cluster: str | None = None,
    position: bool = False,
) -> Sample:
    """Tally some rows of battles.

    Args:
        battles: the battles as read.
        rows: indices of the rows to tally.
        items: sorted indices of the K items to use.
        cluster: the column whose values are resampled as a whole.
        position: distinguish which item was shown first.

    Raises:
        InputError: see `column_of`.
    """
    k, place = len(items), np.full(len(battles.items), -1)
    place[items] = np.arange(k)
    a, b = place[battles.first[rows]], place[battles.second[rows]]
    turned = a > b
    i, j = np.where(turned, b, a), np.where(turned, a, b)
    won = np.where(turned, battles.lost[rows], battles.won[rows])
    lost = np.where(turned, battles.won[rows], battles.lost[rows])
    tied, weight = battles.tied[rows], battles.weight[rows]
    key = (i * k + j) * 2 + (turned if position else 0)
    held, cell = np.unique(key, return_inverse=True)
    m = len(held)
    sign = np.where(held % 2, -1.0, 1.0) if position else None
    cells = Cells(k, held // 2 // k, held // 2 % k, sign)
    of_cells = [
        np.bincount(cell, x * weight, minlength=m).astype(np.float64) for x in (won, lost, tied)
    ]
    sample = Sample(cells, of_cells[0], of_cells[1], of_cells[2])
    owner, times, number = _owners(battles, rows, cluster)
    if owner is None:
        return sample
    entries = np.concatenate([won, lost, tied])
    where = np.concatenate([cell, cell + m, cell + 2 * m])
    shape = (len(times), 3 * m)
    units = sparse.csr_matrix((entries, (np.tile(owner, 3), where)), shape=shape)
    return replace(sample, units=units, times=times, clusters=number)


def _owners(
    battles: Battles, rows: NDArray[np.int64], cluster: str | None
) -> tuple[NDArray[np.int64] | None, Numbers, int | None]:
    """The unit of each row, the multiplicity of each unit, and the number of units."""
    if cluster is not None:
        names: dict[str, int] = {}
        values = column_of(battles, cluster)
        of_rows = (names.setdefault(str(values[r]), len(names)) for r in rows.tolist())
        owner = np.fromiter(of_rows, np.int64)
        return owner, np.ones(len(names)), len(names)
    if battles.ballot is not None and battles.times is not None:
        ballots, owner = np.unique(battles.ballot[rows], return_inverse=True)
        times = battles.times[ballots]
        return owner, times, int(times.sum())
    return None, np.zeros(0), None


def resample(sample: Sample, n: int, rng: np.random.Generator) -> tuple[Numbers, Numbers, Numbers]:
    """Draw n tables, [n, M] each; each resamples as many units as there are, with replacement."""
    m = len(sample.won)
    if sample.units is None or sample.times is None:
        counts = np.concatenate([sample.won, sample.lost, sample.tied])
        drawn = _multinomial(counts, n, rng)
    else:
        transposed = sample.units.T.tocsr()
        parts = []
        for start in range(0, n, _CHUNK):
            weights = _multinomial(sample.times, min(_CHUNK, n - start), rng)
            parts.append((transposed @ weights.T).T)
        drawn = np.concatenate(parts)
    return drawn[:, :m], drawn[:, m : 2 * m], drawn[:, 2 * m :]


def _multinomial(counts: Numbers, n: int, rng: np.random.Generator) -> Numbers:
    """Draw n multinomial samples, each with as many trials and the frequencies of `counts`."""
    total = counts.sum()
    some = np.flatnonzero(counts)
    drawn = np.zeros((n, len(counts)))
    if not len(some):
        return drawn
    size = round(total)
    if size <= 4 * len(some) and bool((counts[some] == counts[some[0]]).all()):
        for row in drawn:
            picks = rng.integers(0, len(some), size)
            row[some] = np.bincount(picks, minlength=len(some))
        return drawn
    drawn[:, some] = rng.multinomial(size, counts[some] / counts[some].sum(), size=n)
    return drawn


def win_table(cells: Cells, won: Numbers, lost: Numbers, tied: Numbers) -> Numbers:
    """Wins of i over j with ties as halves, [..., K, K]."""
    k = cells.k
    table = np.zeros((*won.shape[:-1], k * k))
    if cells.sign is None:
        table[..., cells.i * k + cells.j] = won + tied / 2
        table[..., cells.j * k + cells.i] = lost + tied / 2
    else:
        for cell, (i, j) in enumerate(zip(cells.i.tolist(), cells.j.tolist(), strict=True)):
            table[..., i * k + j] += won[..., cell] + tied[..., cell] / 2
            table[..., j * k + i] += lost[..., cell] + tied[..., cell] / 2
    return table.reshape(*won.shape[:-1], k, k)


def share_table(wins: Numbers, smoothing: float = 0.0) -> Numbers:
    """(wins + s) / (battles + 2 s), or 1/2 without battles, [..., K, K]; P + P^T = 1."""
    total = wins + wins.swapaxes(-1, -2)
    compared = total > 0
    share = (wins + smoothing * compared) / np.maximum(total + 2 * smoothing * compared, 1e-300)
    share = np.where(compared, share, 0.5)
    upper = np.triu(np.ones(share.shape[-2:], dtype=bool), 1)
    share = np.where(upper, share, 1 - np.where(upper, share, 0.5).swapaxes(-1, -2))
    index = np.arange(share.shape[-1])
    share[..., index, index] = 0.5
    return share
