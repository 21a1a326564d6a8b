"""Elo ratings, updated battle by battle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.ranking.bradley_terry import Numbers

START, STEP = 1000.0, 4.0


def elo_ratings(battles: Battles, rows: NDArray[np.int64], step: float = STEP) -> Numbers:
    """Process battles in order: R_i += step (outcome - 1 / (1 + 10^((R_j - R_i) / 400))).

    Args:
        battles: single battles in chronological order.
        rows: indices of the battles to use.
        step: K of Elo's formula, > 0.

    Returns:
        Ratings of all items, starting from START.

    Raises:
        InputError: the battles have no order.

    Source: Elo 1978 (The Rating of Chessplayers), chapter 1.
    """
    if not battles.sequence:
        raise InputError(
            f"{battles.name}: Elo ratings follow battles in their order, which a table of wins has "
            "not; leave --elo out"
        )
    ratings = [START] * len(battles.items)
    outcome = (battles.won + battles.tied / 2)[rows].tolist()
    first, second = battles.first[rows].tolist(), battles.second[rows].tolist()
    for i, j, y in zip(first, second, outcome, strict=True):
        gain = step * (y - 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
        ratings[i] += gain
        ratings[j] -= gain
    return np.array(ratings)
