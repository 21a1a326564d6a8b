"""The simplex method on many symmetric games at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_ZERO = 1e-11


def supports(A: Numbers, inside: NDArray[np.bool_], most: int = 300) -> NDArray[np.bool_]:
    """Find the support of one optimal strategy of each game with margins A = -A^T.

    With B = A + c > 0, a game is solved by: maximise sum x subject to B x <= 1, x >= 0. In each
    round every game's tableau takes one pivot, by the largest coefficient; finished games drop out.

    Args:
        A: [G, m, m].
        inside: which actions exist, [G, m].
        most: maximum number of pivots; unfinished games return an empty support.

    Returns:
        [G, m].

    Source: Dantzig 1951; the tableau is Tucker's.
    """
    games, m = inside.shape
    both = inside[:, :, None] & inside[:, None, :]
    shift = np.abs(A).max((1, 2), keepdims=True) * 1.5
    table = np.zeros((games, m + 1, m + 1))
    table[:, :m, :m] = np.where(both, A + shift, 0.0)
    table[:, :m, m] = inside
    table[:, m, :m] = -1.0 * inside
    # labels 0..m-1 are actions, m.. their slacks
    of_rows = np.tile(np.arange(m, 2 * m), (games, 1))
    of_columns = np.tile(np.arange(m), (games, 1))
    found = np.zeros((games, m), dtype=bool)
    live = np.arange(games)
    for _ in range(most):
        column = table[:, m, :m].argmin(-1)
        pick = np.arange(len(live))
        done = table[pick, m, column] >= -_ZERO
        if done.any():
            rows, basic = of_rows[done], table[done][:, :m, m] > _ZERO
            game, place = np.nonzero((rows < m) & basic)
            found[live[done][game], rows[game, place]] = True
            keep = ~done
            live, table, column = live[keep], table[keep], column[keep]
            of_rows, of_columns = of_rows[keep], of_columns[keep]
            pick = np.arange(len(live))
        if not len(live):
            break
        entering = table[pick, :, column]
        positive = entering[:, :m] > _ZERO
        ratio = np.where(positive, table[:, :m, m] / np.where(positive, entering[:, :m], 1), np.inf)
        row = ratio.argmin(-1)
        pivot = entering[pick, row]
        line = table[pick, row] / pivot[:, None]
        table -= entering[:, :, None] * line[:, None, :]
        table[pick, row] = line
        table[pick, :, column] = -entering / pivot[:, None]
        table[pick, row, column] = 1 / pivot
        swapped = of_rows[pick, row].copy()
        of_rows[pick, row], of_columns[pick, column] = of_columns[pick, column], swapped
    return found
