"""Scores and their errors against other people's code and formulas."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.special import expit

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading import read_battles
from nlhf.ranking import rank
from nlhf.ranking.bradley_terry import fit, islands, unbounded
from nlhf.ranking.elo import elo_ratings
from nlhf.ranking.errors_of_scores import rank_ranges, sandwich
from nlhf.ranking.sampling import make_sample, resample


def battles_of(k=6, n=3000, ties=0.2, place=0.3, seed=0):
    """Random battles with ties and an advantage for the first; scores 1 to -1; 40 users."""
    rng = np.random.default_rng(seed)
    r = np.linspace(1, -1, k)
    i = rng.integers(0, k, n)
    j = (i + rng.integers(1, k, n)) % k
    won = rng.random(n) < expit(r[i] - r[j] + place)
    tied = rng.random(n) < ties
    users = [f"u{u}" for u in rng.integers(0, 40, n)]
    return Battles(
        "made up",
        "battles",
        tuple(f"m{x}" for x in range(k)),
        i,
        j,
        (won & ~tied).astype(float),
        (~won & ~tied).astype(float),
        tied.astype(float),
        {"user": users},
        ordered=True,
        sequence=True,
    )


def sample_of(battles, cluster=None, position=False):
    rows = np.arange(len(battles.first))
    return make_sample(battles, rows, np.arange(len(battles.items)), cluster, position)


def design(battles, position=False):
    """Rows of a logistic regression: one per battle, without the first item."""
    k, n = len(battles.items), len(battles.first)
    X = np.zeros((n, k))
    X[np.arange(n), battles.first] += 1
    X[np.arange(n), battles.second] -= 1
    X = X[:, 1:]
    return np.column_stack([X, np.ones(n)]) if position else X


def centred(coefficients, k):
    r = np.concatenate([[0.0], coefficients[: k - 1]])
    return r - r.mean()


def centred_errors(covariance, k):
    to = np.eye(k)[:, 1:] - np.full((k, k - 1), 1 / k)
    return np.sqrt(np.diag(to @ covariance[: k - 1, : k - 1] @ to.T))


@pytest.mark.parametrize("cluster", [None, "user"])
@pytest.mark.parametrize("position", [False, True])
def test_scores_and_sandwich_are_statsmodels(cluster, position):
    battles = battles_of()
    k = len(battles.items)
    y, X = battles.won + battles.tied / 2, design(battles, position)
    glm = sm.GLM(y, X, family=sm.families.Binomial())
    options = {"cov_type": "HC0"}
    if cluster:
        groups = np.unique(battles.columns["user"], return_inverse=True)[1]
        options = {
            "cov_type": "cluster",
            "cov_kwds": {"groups": groups, "use_correction": False},
        }
    theirs = glm.fit(tol=1e-12, **options)
    sample = sample_of(battles, cluster, position)
    ours = fit(sample.cells, sample.won, sample.lost, sample.tied)
    covariance = sandwich(sample, ours)
    np.testing.assert_allclose(ours.scores, centred(theirs.params, k), atol=1e-9)
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(errors[:k], centred_errors(theirs.cov_params(), k), rtol=1e-6)
    if position:
        assert float(ours.position) == pytest.approx(theirs.params[-1], abs=1e-9)
        assert errors[-1] == pytest.approx(theirs.bse[-1], rel=1e-6)


def test_scores_are_arena_ranks_formula():
    """Loss and sandwich of arena-rank 0.1.1, without its regularisation of the Hessian."""
    battles = battles_of(seed=1)
    k, y = len(battles.items), battles.won + battles.tied / 2
    i, j = battles.first, battles.second

    def loss(r):
        d = r[i] - r[j]
        return -np.sum(y * d - np.logaddexp(0, d)), -np.bincount(
            np.r_[i, j], np.r_[y - expit(d), expit(d) - y], k
        )

    r = minimize(loss, np.zeros(k), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    p = expit(r[i] - r[j])
    hessian, spread = np.zeros((k, k)), np.zeros((k, k))
    for table, value in ((hessian, p * (1 - p)), (spread, (y - p) ** 2)):
        np.add.at(table, (i, i), value)
        np.add.at(table, (j, j), value)
        np.add.at(table, (i, j), -value)
        np.add.at(table, (j, i), -value)
    inverse = np.linalg.pinv(hessian, rcond=1e-10)
    sample = sample_of(battles)
    ours = fit(sample.cells, sample.won, sample.lost, sample.tied)
    np.testing.assert_allclose(ours.scores, r - r.mean(), atol=1e-6)
    np.testing.assert_allclose(sandwich(sample, ours), inverse @ spread @ inverse, atol=1e-8)


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
@pytest.mark.parametrize("position", [False, True])
def test_models_of_ties_are_at_the_maximum_of_their_likelihood(ties, position):
    battles = battles_of(k=5, n=800, seed=2)
    sample = sample_of(battles, position=position)
    k, i, j = 5, battles.first, battles.second

    def log_likelihood(theta):
        d = theta[i] - theta[j] + (theta[k + 1] if position else 0)
        eta = theta[k]
        if ties == "davidson":
            win, lose, tie = np.exp(d / 2), np.exp(-d / 2), np.exp(eta)
            total = win + lose + tie
            p = win / total, lose / total, tie / total
        else:
            p = expit(d - eta), expit(-d - eta), 1 - expit(d - eta) - expit(-d - eta)
        parts = zip((battles.won, battles.lost, battles.tied), p, strict=True)
        return sum(float(n @ np.log(q)) for n, q in parts)

    ours = fit(sample.cells, sample.won, sample.lost, sample.tied, ties)
    theta = np.concatenate([ours.scores, [ours.tie], [ours.position] if position else []])
    assert float(ours.log_likelihood) == pytest.approx(log_likelihood(theta), abs=1e-6)
    best = minimize(lambda t: -log_likelihood(t), theta, method="BFGS", options={"gtol": 1e-7})
    assert -best.fun <= log_likelihood(theta) + 1e-9
    # the curvature, which errors rest on, against differences of the slope
    error = np.sqrt(np.diag(sandwich(sample, ours, ties)))
    assert (error > 0.01).all()
    assert (error < 0.5).all()


def test_elo_by_hand_and_from_tallies():
    battles = read_battles(
        [
            {"model_a": "x", "model_b": "y", "winner": "model_a"},
            {"model_a": "x", "model_b": "y", "winner": "tie"},
        ]
    )
    first = 1000 + 4 * 0.5
    expected = first + 4 * (0.5 - 1 / (1 + 10 ** (-2 * (first - 1000) / 400)))
    ratings = elo_ratings(battles, np.arange(2))
    assert ratings[0] == pytest.approx(expected)
    assert ratings.sum() == pytest.approx(2000)
    with pytest.raises(InputError, match="order"):
        rank("sound-quality", elo=True, bootstrap=0)


def test_where_no_maximum_is_finite_and_where_nothing_joins():
    wins = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0.0]])
    assert islands(wins) == [[0, 1], [2]]
    assert sorted(map(sorted, unbounded(wins))) == [[0], [1], [2]]
    circle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])
    assert islands(circle) == [[0, 1, 2]]
    assert unbounded(circle) == []


def test_resamples_have_the_moments_of_a_multinomial():
    battles = battles_of(k=4, n=500)
    sample = sample_of(battles)
    won, lost, tied = resample(sample, 4000, np.random.default_rng(0))
    assert ((won + lost + tied).sum(1) == 500).all()
    np.testing.assert_allclose(won.mean(0), sample.won, rtol=0.05)
    expected = sample.won * (1 - sample.won / 500)
    np.testing.assert_allclose(won.var(0), expected, rtol=0.15)


def test_resampled_clusters_stay_whole():
    battles = battles_of(k=4, n=500)
    users = [f"u{n // 2}" for n in range(500)]
    doubled = battles_of(k=4, n=500)
    for name in ("first", "second", "won", "lost", "tied"):
        values = getattr(battles, name)
        object.__setattr__(doubled, name, np.repeat(values[:250], 2))
    object.__setattr__(doubled, "columns", {"user": users})
    sample = sample_of(doubled, "user")
    assert sample.clusters == 250
    won, lost, tied = resample(sample, 50, np.random.default_rng(0))
    for drawn in (won, lost, tied):
        assert (drawn % 2 == 0).all()
    assert ((won + lost + tied).sum(1) == 500).all()


def test_rank_ranges_are_one_where_all_is_sure():
    scores = np.array([3.0, 0.0, -3.0])
    draws = scores + 0.01 * np.random.default_rng(0).standard_normal((500, 3))
    joined = np.ones((3, 3), dtype=bool)
    low, high = rank_ranges(scores, draws, joined)
    assert low.tolist() == high.tolist() == [1, 2, 3]
    joined[0, 1:] = joined[1:, 0] = False
    low, high = rank_ranges(scores, draws, joined)
    assert (low[0], high[0]) == (1, 3)
    wide = scores + 30 * np.random.default_rng(0).standard_normal((500, 3))
    low, high = rank_ranges(scores, wide, np.ones((3, 3), dtype=bool))
    assert low.tolist() == [1, 1, 1]
    assert high.tolist() == [3, 3, 3]
