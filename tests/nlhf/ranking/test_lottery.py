"""The maximal lottery against linear programming, with its certificate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from nlhf.ranking.lottery import exploitability, maximal_lotteries, robust_lottery, top_cycles


def games(n, k, rng, votes=None):
    """Random tables; shares of a number of votes per pair, or uniform."""
    P = rng.random((n, k, k)) if votes is None else rng.integers(0, votes + 1, (n, k, k)) / votes
    upper = np.triu(P, 1)
    return upper + np.tril(1 - upper.swapaxes(1, 2), -1) + 0.5 * np.eye(k)


def by_program(P):
    k = len(P)
    end = linprog(
        np.append(np.zeros(k), -1.0),
        A_ub=np.hstack([-(P - 0.5).T, np.ones((k, 1))]),
        b_ub=np.zeros(k),
        A_eq=np.append(np.ones(k), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * k + [(None, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return end.x[:k]


@pytest.mark.parametrize("k", [2, 3, 5, 9, 25, 53])
def test_equals_linear_programming(k):
    P = games(40, k, np.random.default_rng(k))
    found = maximal_lotteries(P)
    for table, p in zip(P, found, strict=True):
        np.testing.assert_allclose(p, by_program(table), atol=1e-9)
    assert exploitability(P, found).max() < 1e-11


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(k=st.integers(2, 8), votes=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_tables_of_few_votes_are_solved_and_names_do_not_matter(k, votes, seed):
    rng = np.random.default_rng(seed)
    P = games(8, k, rng, votes)
    found = maximal_lotteries(P)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)
    assert found.min() >= 0
    assert exploitability(P, found).max() < 1e-10
    # the evenest lottery is one whatever the order of the items
    turn = rng.permutation(k)
    again = maximal_lotteries(P[:, turn][:, :, turn])
    np.testing.assert_allclose(again, found[:, turn], atol=1e-6)


def test_known_lotteries():
    rock = np.array([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])
    even = np.full((3, 3), 0.5)
    condorcet = np.array([[0.5, 0.6, 0.7], [0.4, 0.5, 0.9], [0.3, 0.1, 0.5]])
    found = maximal_lotteries(np.stack([rock, even, condorcet]))
    np.testing.assert_allclose(found, [[1 / 3] * 3, [1 / 3] * 3, [1, 0, 0]], atol=1e-12)


def test_the_top_cycle_is_the_smallest_dominant_set():
    P = games(200, 7, np.random.default_rng(3), votes=3)
    margins = P - P.swapaxes(1, 2)
    for table, top in zip(margins, top_cycles(margins), strict=True):
        dominant = []
        for bits in range(1, 2**7):
            members = np.array([bits >> n & 1 for n in range(7)], dtype=bool)
            if (table[members][:, ~members] > 0).all():
                dominant.append(members)
        assert (min(dominant, key=np.sum) == top).all()


def test_the_robust_lottery_is_a_saddle_point():
    rng = np.random.default_rng(4)
    P = games(3, 5, rng)
    p, value = robust_lottery(P)
    worst = min(float((p @ (table - 0.5)).min()) for table in P)
    assert worst == pytest.approx(value, abs=1e-12)
    for q in rng.dirichlet(np.full(5, 0.4), 2000):
        assert min(float((q @ (table - 0.5)).min()) for table in P) <= value + 1e-9
    one, nothing = robust_lottery(P[:1])
    np.testing.assert_allclose(one, maximal_lotteries(P[:1])[0], atol=1e-9)
    assert nothing == pytest.approx(0, abs=1e-10)
