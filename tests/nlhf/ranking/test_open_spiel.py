"""The maximal lottery against OpenSpiel's solution of the same matrix game.

OpenSpiel asks its solver for 1e-7, and the solver does not end where it is asked for much more.
The comparison to 1e-9 is with scipy's linear programming, see `test_lottery.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from nlhf.ranking.lottery import maximal_lotteries
from tests.nlhf.ranking.test_lottery import games


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [2, 3, 5, 9, 25])
def test_equals_open_spiel(k: int) -> None:
    import pyspiel
    from open_spiel.python.algorithms import lp_solver

    P = games(10, k, np.random.default_rng(100 + k))
    for table, lottery in zip(P, maximal_lotteries(P), strict=True):
        margins = table - 0.5
        game = pyspiel.create_tensor_game([margins, -margins]).as_matrix_game()
        theirs = np.ravel(lp_solver.solve_zero_sum_matrix_game(game)[0])
        np.testing.assert_allclose(lottery, theirs, atol=1e-6)
