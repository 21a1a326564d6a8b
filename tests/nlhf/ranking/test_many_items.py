"""Many items of which most never meet: the same answers by cells as by whole tables, and bounds."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, xlogy

import nlhf
from nlhf.preferences.battles import Battles
from nlhf.ranking import bradley_terry, draws
from nlhf.ranking.bradley_terry import Cells, fit
from nlhf.ranking.cycles import triads
from nlhf.ranking.draws import draw
from nlhf.ranking.lottery import exploitability, maximal_lotteries, top_cycles
from nlhf.ranking.plan import plan
from nlhf.ranking.sampling import make_sample, resample, share_table, win_table
from nlhf.ranking.settings import Settings
from nlhf.ranking.words import in_words


def battles(k, n, seed, contexts=None):
    """n single battles of random pairs of k items with scores and some ties."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(k)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    tied = (rng.random(n) < 0.1).astype(float)
    won = (rng.random(n) < expit(scores[a] - scores[b])) * (1 - tied)
    names = tuple(f"m{i}" for i in range(k))
    columns = {} if contexts is None else {"context": [str(c) for c in contexts]}
    context = None if contexts is None else "context"
    return Battles("made up", "battles", names, a, b, won, 1 - won - tied, tied, columns, context)


def entropy(p):
    return -xlogy(p, p).sum(-1)


def test_draws_are_those_of_whole_tables():
    votes = battles(15, 120, 0)
    sample = make_sample(votes, np.arange(120), np.arange(15))
    fitted = fit(sample.cells, sample.won + 0.5, sample.lost + 0.5, sample.tied)
    made = Settings(bootstrap=150)
    told = []
    drawn = draw(sample, fitted, 0.5, made, np.random.default_rng(1), 1, told.append)
    assert sum(told) == 150 * draws.STAGES
    won, lost, tied = resample(sample, 150, np.random.default_rng(1))
    P = share_table(win_table(sample.cells, won, lost, tied))
    beats = P > 0.5
    np.testing.assert_array_equal(drawn.beats, beats.mean(0))
    np.testing.assert_array_equal(drawn.first, (beats.sum(-1) == 14).mean(0))
    np.testing.assert_array_equal(drawn.tops, top_cycles(P - P.swapaxes(1, 2)))
    np.testing.assert_allclose(drawn.lotteries, maximal_lotteries(P), atol=1e-9)
    found = triads(sample.cells, drawn.above, drawn.tops)
    expected = {}
    for i in range(15):
        for j in range(i + 1, 15):
            for k in range(i + 1, 15):
                share = (beats[:, i, j] & beats[:, j, k] & beats[:, k, i]).mean()
                if share >= 0.05:
                    expected[i, j, k] = share
    told = dict(zip(map(tuple, found.members.tolist()), found.probability, strict=True))
    assert told == pytest.approx(expected)


def test_a_game_that_falls_apart_plays_each_part_by_its_entropy():
    rock = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.6], [0.8, 0.4, 0.5]])
    P = np.full((7, 7), 0.5)
    P[:3, :3] = rock  # items 0 to 2 form a cycle; 3 beats 4; nothing is known of 5 and 6
    P[3, 4], P[4, 3] = 0.7, 0.3
    turn = np.random.default_rng(0).permutation(7)
    found = np.zeros(7)
    found[turn] = maximal_lotteries(P[turn][:, turn][None])[0]
    inner = maximal_lotteries(rock[None])[0]
    weights = np.array([np.exp(entropy(inner)), 1, 1, 1])
    weights /= weights.sum()
    expected = [*(weights[0] * inner), weights[1], 0, weights[2], weights[3]]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # no other mixture of the parts' lotteries is more even
    end = minimize(
        lambda w: xlogy(w, w).sum() - w[0] * entropy(inner),
        [0.25] * 4,
        bounds=[(1e-9, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    np.testing.assert_allclose(end.x, weights, atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_sparse_lotteries_are_the_evenest(seed):
    votes = battles(9, 14, seed)
    sample = make_sample(votes, np.arange(14), np.arange(9))
    P = share_table(win_table(sample.cells, sample.won, sample.lost, sample.tied))
    p = maximal_lotteries(P[None])[0]
    assert exploitability(P, p) < 1e-10
    end = minimize(
        lambda q: xlogy(q, np.maximum(q, 1e-300)).sum(),
        np.clip(p, 1e-6, 1),
        bounds=[(0, 1)] * 9,
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1},
            {"type": "ineq", "fun": lambda q: -(P - 0.5) @ q},
        ],
        method="SLSQP",
    )
    assert entropy(p) >= -end.fun - 1e-5


def test_sweeps_give_the_scores_of_newton(monkeypatch):
    votes = battles(160, 4000, 0)
    sample = make_sample(votes, np.arange(4000), np.arange(160))
    whole = fit(sample.cells, sample.won, sample.lost, sample.tied)
    tables = resample(sample, 12, np.random.default_rng(0))
    swept = fit(sample.cells, *tables, start=whole)
    monkeypatch.setattr(bradley_terry, "_LARGE", 1000)
    stepped = fit(sample.cells, *tables, start=whole)
    finite = np.abs(stepped.scores) < 10
    assert finite.mean() > 0.9
    assert np.abs(swept.scores - stepped.scores)[finite].max() < 1e-5
    np.testing.assert_allclose(swept.log_likelihood, stepped.log_likelihood, atol=1e-6)


def test_rare_ties_of_unequal_items_have_scores():
    # the tie's probability vanishes beside one, and 1 - P(win) - P(loss) has no digit of it
    cells = Cells(3, np.array([0, 0, 1]), np.array([1, 2, 2]))
    won, lost, tied = np.array([9.0, 1e6, 9.0]), np.array([9.0, 0.0, 1.0]), np.array([0.0, 0, 1])
    found = fit(cells, won, lost, tied, "rao-kupper")
    assert np.isfinite(found.scores).all()
    d = 60.0
    one = Cells(2, np.array([0]), np.array([1]))
    theta = np.array([[d / 2, -d / 2, 0.2]])
    votes = np.array([[0.0]]), np.array([[0.0]]), np.array([[1.0]])
    value, slope, _ = bradley_terry.derivatives(one, theta, *votes, "rao-kupper")
    # P(tie) = (e^(2 eta) - 1) P(win) P(loss), and P(win) = 1 here
    assert value[0] == pytest.approx(np.log(np.expm1(0.4)) - d - 0.2)
    assert slope[0, 0] == pytest.approx(-1.0)


def test_contexts_that_share_next_to_nothing_are_not_pooled():
    votes = battles(40, 400, 0)
    half = np.where((votes.first < 20) & (votes.second < 20), "low", "high")
    inside = (votes.first < 20) == (votes.second < 20)
    rows = np.flatnonzero(inside)
    apart = {
        "first": votes.first[rows], "second": votes.second[rows], "won": votes.won[rows],
        "lost": votes.lost[rows], "tied": votes.tied[rows],
    }  # fmt: skip
    columns = {"context": half[rows].tolist()}
    separate = Battles("x", "battles", votes.items, columns=columns, context="context", **apart)
    found = nlhf.rank(separate, bootstrap=20)
    assert sorted(c.context for c in found.contexts) == ["high", "low"]
    assert all(len(c.items) == 20 for c in found.contexts)
    assert found.robust is None
    assert "not pooled: none of 40 items occur in several" in " ".join(found.card["notes"])
    assert (found.card["contexts"], found.card["pairs"]) == (2, 2 * 190)
    mixed = battles(40, 400, 0, contexts=np.arange(400) % 2)
    assert plan(mixed).names == ("0", "1", "pooled")
    assert plan(mixed).notes == ()


def test_work_is_told_to_the_end():
    votes = battles(12, 200, 0, contexts=np.arange(200) % 2)
    told = []
    nlhf.rank(votes, bootstrap=70, advance=told.append)
    assert sum(told) == plan(votes).work(70)
    assert len(told) > 6


@pytest.mark.parametrize(("most", "solved"), [(10 * 12**3, 10), (2 * 12**3, 0)])
def test_bounded_lotteries_are_said(most, solved, monkeypatch):
    monkeypatch.setattr(draws, "LOTTERY_WORK", most)
    monkeypatch.setattr(draws, "FEWEST", 5)
    c = nlhf.rank(battles(12, 20, 3), bootstrap=100).contexts[0]
    assert c.resamples == 100
    assert solved <= c.lotteries < 100
    assert (c.lotteries == 0) == (solved == 0)
    words = " ".join(in_words(c))
    assert "12 items are too many to solve it in all 100 resamples" in words
    assert np.isnan(c.items[0].lottery_low) == (solved == 0)
    # everything else rests on all of them
    assert not np.isnan([i.low for i in c.items] + [i.first for i in c.items]).any()
