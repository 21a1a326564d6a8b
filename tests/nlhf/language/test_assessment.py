"""Accuracy, calibration and cycles against known answers, and statsmodels where it is there."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from nlhf.language.assessment import assess, model_cycles, vote_cycles
from nlhf.language.comparisons import Comparison
from nlhf.language.intervals import clopper_pearson


@given(st.integers(1, 200), st.data())
def test_intervals_agree_with_scipy(n, data):
    wins = data.draw(st.integers(0, n))
    expected = binomtest(wins, n).proportion_ci(0.95, "exact")
    low, high = clopper_pearson(wins, 0, n)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


def test_intervals_agree_with_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for wins, n in ((0, 5), (5, 5), (17, 40), (199, 200)):
        expected = proportion.proportion_confint(wins, n, alpha=0.1, method="beta")
        assert clopper_pearson(wins, 0, n, 0.9) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p", [0.03, 0.3, 0.5, 0.9])
def test_intervals_cover_at_least_as_often_as_they_say(p):
    n = 30
    covered = sum(
        float(binom.pmf(k, n, p))
        for k in range(n + 1)
        if clopper_pearson(k, 0, n)[0] <= p <= clopper_pearson(k, 0, n)[1]
    )
    assert covered >= 0.95


def test_ties_widen_the_interval_to_both_sides():
    low, high = clopper_pearson(4, 3, 10)
    assert low == clopper_pearson(4, 0, 10)[0]
    assert high == clopper_pearson(7, 0, 10)[1]
    assert clopper_pearson(0, 0, 0) == (0.0, 1.0)


def constant(p):
    z = math.log(p / (1 - p))
    return lambda x, a, b: torch.full((len(a),), z, dtype=torch.float64)


def votes(*shares, **options):
    return [Comparison(f"x{i}", "aa", "b", s, **options) for i, s in enumerate(shares)]


def test_known_accuracy_loss_and_calibration():
    """P = 0.8 on comparisons of which 3 of 4 went that way: off by 0.05."""
    found = assess(constant(0.8), votes(1.0, 1.0, 1.0, 0.0))
    assert found.accuracy == found.longer == 0.75
    assert found.ece == pytest.approx(0.05)
    assert found.loss == pytest.approx(-(3 * math.log(0.8) + math.log(0.2)) / 4)
    assert found.brier == pytest.approx((3 * 0.04 + 0.64) / 4)
    (full,) = [b for b in found.bins if b.count]
    assert (full.count, full.agreement) == (4, 0.75)
    assert full.confidence == pytest.approx(0.8)
    # confidence is of the side that is preferred: the mirror image is as well calibrated
    assert assess(constant(0.2), votes(0.0, 0.0, 0.0, 1.0)).ece == pytest.approx(0.05)


def test_a_calibrated_model_has_no_error():
    assert assess(constant(0.7), votes(0.7, 0.7)).ece == pytest.approx(0, abs=1e-12)


def test_even_probability_counts_half_and_ties_not_at_all():
    found = assess(constant(0.5), votes(1.0, 0.0, 0.5))
    assert (found.n, found.decided, found.accuracy) == (3, 2, 0.5)
    nothing = assess(constant(0.8), votes(0.5))
    assert math.isnan(nothing.accuracy)
    assert (nothing.accuracy_low, nothing.accuracy_high) == (0.0, 1.0)
    assert nothing.as_json()["accuracy"] is None


def test_votes_weigh_in_the_loss():
    both = [Comparison("x", "a", "b", 1.0, 3.0), Comparison("y", "a", "b", 0.0, 1.0)]
    assert assess(constant(0.8), both).loss == pytest.approx(
        -(3 * math.log(0.8) + math.log(0.2)) / 4
    )


def game(Z):
    names = [chr(97 + i) for i in range(len(Z))]
    pairs = [Comparison("x", names[i], names[j], 0.5) for i in range(len(Z)) for j in range(i)]
    return (
        lambda x, a, b: torch.stack(
            [Z[names.index(p), names.index(q)] for p, q in zip(a, b, strict=True)]
        )
    ), pairs


def test_cycles_of_known_games():
    r = torch.tensor([0.3, -1.0, 2.0, 0.7, 0.1], dtype=torch.float64)
    reward = r[:, None] - r
    found = model_cycles(*game(reward))
    assert (found.triads, found.cyclic) == (10, 0)
    assert found.energy == pytest.approx(0, abs=1e-24)
    turn = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
    found = model_cycles(*game(turn))
    assert (found.triads, found.cyclic, found.energy) == (1, 1, 1)
    # orthogonal parts: their squares add up
    both = turn + reward[:3, :3]
    share = 6 / float(both.square().sum())
    assert model_cycles(*game(both)).energy == pytest.approx(share)
    # the regular tournament on five has the most circles that there can be: 5 of 10
    five = torch.tensor([[0, 1, 1, -1, -1]] * 5)
    five = torch.stack([row.roll(i) for i, row in enumerate(five)]).double()
    assert model_cycles(*game(five)).cyclic == 0.5


def test_cycles_of_votes():
    ring = [Comparison("x", a, b, 0.8, 5) for a, b in ("ab", "bc", "ca")]
    assert (vote_cycles(ring).triads, vote_cycles(ring).cyclic) == (1, 1)
    assert vote_cycles(ring[:2]).triads == 0
    even = [*ring, Comparison("x", "b", "a", 0.8, 5)]
    assert vote_cycles(even).triads == 0
    across = [Comparison(str(i), a, b, 0.8) for i, (a, b) in enumerate(("ab", "bc", "ca"))]
    assert vote_cycles(across).triads == 0


@pytest.mark.parametrize("split", [(1.0, 1.0, 1.0, 0.0), (0.0, 0.0), (1.0,), (0.5, 0.75)])
def test_a_judge_that_never_takes_a_side_is_calibrated(split):
    found = assess(constant(0.5), votes(*split))
    assert found.ece == 0
    (filled,) = [b for b in found.bins if b.count]
    assert (filled.count, filled.confidence, filled.agreement) == (len(split), 0.5, 0.5)


def test_calibration_counts_ties_and_does_not_depend_on_the_order_of_the_answers():
    # two of three at P = 0.8: the votes agree with 0.75 of them; one without a side
    def logits(prompts, a, b):
        table = {("p", "q"): 4.0, ("r", "s"): 0.25, ("t", "u"): 1.0}
        odds = [table.get((x, y)) or 1 / table[y, x] for x, y in zip(a, b, strict=True)]
        return torch.tensor(odds, dtype=torch.float64).log()

    there = [Comparison(pair[0], *pair, share) for pair, share in PAIRS]
    back = [Comparison(a, b, a, 1 - share) for (a, b), share in PAIRS]
    for comparisons in (there, back):
        assert assess(logits, comparisons).ece == pytest.approx(2 / 3 * 0.05)


PAIRS = [(("p", "q"), 1.0), (("r", "s"), 0.5), (("t", "u"), 1.0)]
