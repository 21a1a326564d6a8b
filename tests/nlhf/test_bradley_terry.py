"""Bradley-Terry rewards whose likelihood has no finite maximum, against linear programming."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from nlhf.preferences.bradley_terry import fit_bradley_terry, limiting_rewards


def tables(n: int, k: int, kept: float, seed: int):
    """Shares and counts of n tables of k actions: a share `kept` of the pairs, many one-sided."""
    g = torch.Generator().manual_seed(seed)
    won = torch.randint(0, 3, (n, k, k), generator=g).double()
    kept_pairs = (torch.rand(n, k, k, generator=g) < kept).triu(1)
    won = won * (kept_pairs | kept_pairs.mT)
    counts = won + won.mT
    return torch.where(counts > 0, won / counts.clamp_min(1), 0.5), counts, won


def widens(won: np.ndarray, a: int, b: int) -> bool:
    """Whether r_a - r_b can grow without bound and without loss: max d_a - d_b, d_i >= d_j."""
    k = len(won)
    rows = [np.eye(k)[j] - np.eye(k)[i] for i, j in np.argwhere(won > 0)]
    gain, limits = np.eye(k)[a] - np.eye(k)[b], (rows, np.zeros(len(rows))) if rows else ()
    found = linprog(-gain, *limits, bounds=[(-1, 1)] * k)
    return -found.fun > 1e-9


@pytest.mark.parametrize(("k", "kept"), [(3, 0.7), (4, 0.5), (5, 0.6), (6, 0.35), (6, 0.9)])
def test_the_best_action_is_given_where_the_votes_determine_it(k, kept):
    P, counts, won = tables(12, k, kept, seed=k)
    played = torch.ones(12, k, dtype=torch.bool)
    rewards = limiting_rewards(P, counts, played)
    for row, wins in zip(rewards.tolist(), won.numpy(), strict=True):
        ahead = [[widens(wins, a, b) for b in range(k)] for a in range(k)]
        best = [a for a in range(k) if not any(ahead[b][a] for b in range(k))]
        if not best:
            assert all(math.isnan(r) for r in row)
            continue
        behind = [any(ahead[a][b] and not ahead[b][a] for a in best) for b in range(k)]
        assert [r == -math.inf for r in row] == behind


def test_rewards_within_the_best_set_are_those_of_its_own_votes():
    # {0, 1, 2} is above {3, 4}, which beat it never
    won = np.array(
        [[0, 5, 2, 3, 0], [1, 0, 4, 0, 2], [3, 2, 0, 1, 1], [0] * 4 + [2], [0, 0, 0, 1, 0]]
    )
    counts = torch.from_numpy(won + won.T).double()
    P = torch.where(counts > 0, torch.from_numpy(won) / counts.clamp_min(1), 0.5)
    (found,) = limiting_rewards(P[None], counts[None], torch.ones(1, 5, dtype=torch.bool))
    assert found[3:].tolist() == [-math.inf, -math.inf]

    def loss(r):
        return sum(won[i, j] * np.logaddexp(0, r[j] - r[i]) for i in range(3) for j in range(3))

    expected = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-10}).x
    np.testing.assert_allclose(found[:3], expected - expected.mean(), atol=1e-7)


@pytest.mark.parametrize("exponent", [1, 6, 15, 30, 60])
def test_tiny_shares_are_fitted_without_a_ridge(exponent):
    small = 10.0**-exponent
    P = torch.tensor([[0.5, 1 - small], [small, 0.5]], dtype=torch.float64)
    r = fit_bradley_terry(P, ridge=0.0)
    assert float(r[0] - r[1]) == pytest.approx(math.log(1 - small) - math.log(small), rel=1e-14)


def test_a_fit_without_a_maximum_is_not_a_number():
    P = torch.tensor([[[0.5, 1.0], [0.0, 0.5]], [[0.5, 0.9], [0.1, 0.5]]], dtype=torch.float64)
    never, ends = fit_bradley_terry(P, ridge=0.0)
    assert never.isnan().all()
    torch.testing.assert_close(ends[0] - ends[1], torch.tensor(9.0).double().log())


def test_what_is_not_played_counts_as_an_opponent_only():
    # 0 is above all and not played; 1 and 2 have only lost to it, and to nobody else
    won = torch.tensor([[0, 4, 4], [0, 0, 0], [0, 0, 0]]).double()
    counts = won + won.mT
    P = torch.where(counts > 0, won / counts.clamp_min(1), 0.5)
    played = torch.tensor([[False, True, True]])
    assert limiting_rewards(P[None], counts[None], played).isnan().all()
    won[1, 2] = 1.0
    counts = won + won.mT
    P = torch.where(counts > 0, won / counts.clamp_min(1), 0.5)
    assert limiting_rewards(P[None], counts[None], played).tolist() == [[-math.inf, 0.0, -math.inf]]
