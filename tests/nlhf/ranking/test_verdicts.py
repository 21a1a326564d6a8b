"""What the votes decide, and what they do not: on votes whose answer is known."""

import numpy as np
import pytest
from scipy.special import expit

import nlhf
from nlhf.preferences.reading import read_battles
from nlhf.ranking.words import in_words
from tests.nlhf.ranking.made_up import planted_cycle, tally, transitive


def verdict(battles, **options):
    return nlhf.rank(battles, bootstrap=400, **options).contexts[-1]


def test_a_clear_winner():
    c = verdict(tally({("a", "b"): (60, 20), ("a", "c"): (70, 20), ("b", "c"): (50, 40)}))
    assert (c.verdict, c.winner) == ("winner", "a")
    assert c.probability > 0.95
    assert c.items[0].first == c.probability
    assert c.items[0].lottery == 1.0
    assert "a wins" in in_words(c)[0]
    assert c.further is None


def test_a_clear_cycle():
    c = verdict(tally({("a", "b"): (70, 30), ("b", "c"): (70, 30), ("c", "a"): (70, 30)}))
    assert c.verdict == "cycle"
    assert c.winner is None
    assert set(c.top_cycle) == {"a", "b", "c"}
    assert c.cycles[0].items == ("a", "b", "c")
    assert c.cycles[0].probability > 0.95
    assert [item.lottery for item in c.items] == pytest.approx([1 / 3] * 3)
    # rock does not win rock-paper-scissors
    assert [item.bradley_terry for item in c.items] == pytest.approx([0] * 3, abs=1e-9)
    assert c.misfit is not None
    assert c.misfit.p < 0.01


def test_few_votes_decide_nothing():
    for wins in (1, 3, 4):
        c = verdict(tally({("a", "b"): (wins, 0)}))
        assert c.verdict == "undecided"
        assert c.further is not None
        assert c.unbounded
        assert c.items[0].high == np.inf
    # the exact binomial test agrees from five votes on
    assert verdict(tally({("a", "b"): (5, 0)})).verdict == "winner"


def test_even_votes_are_undecided_and_further_battles_are_many():
    c = verdict(tally({("a", "b"): (510, 490), ("a", "c"): (800, 200), ("b", "c"): (800, 200)}))
    assert c.verdict == "undecided"
    assert c.further_pairs == (("a", "b"),)
    assert c.further is not None
    assert 500 <= c.further <= 10**6
    assert c.unordered == (("a", "b"),)


def test_further_battles_do_decide_about_half_of_the_time():
    votes = {("a", "b"): (520, 480)}
    c = verdict(tally(votes))
    assert c.further is not None
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(40):
        p = rng.beta(520.5, 480.5)
        more = rng.binomial(c.further, p)
        added = {("a", "b"): (520 + more, 480 + c.further - more)}
        decided += verdict(tally(added)).verdict == "winner"
    assert decided >= 12


def test_never_compared_and_islands():
    c = verdict(read_battles("tests/cases/zero_votes.csv"))
    assert (c.verdict, c.winner) == ("undecided", None)
    assert {frozenset(pair) for pair in c.never_compared} == {frozenset("AB"), frozenset("AC")}
    assert {frozenset(part) for part in c.islands} == {frozenset("A"), frozenset("BC")}
    unknown = next(item for item in c.items if item.name == "A")
    assert np.isnan(unknown.bradley_terry)
    assert (unknown.rank_low, unknown.rank_high) == (1, 3)
    d = verdict(read_battles("tests/cases/unconnected.csv"))
    assert (d.verdict, d.winner) == ("undecided", None)
    assert {frozenset(part) for part in d.islands} == {frozenset("AB"), frozenset("CD")}
    assert all((item.rank_low, item.rank_high) == (1, 4) for item in d.items)
    assert "No battle joins" in " ".join(in_words(d))


def test_rates_have_no_errors_unless_their_numbers_are_told():
    c = verdict("roshambo")
    assert c.verdict == "undecided"
    assert np.isnan(c.items[0].low)
    assert np.isnan(c.battles)
    assert c.exploitability < 1e-11
    assert "unknown" in " ".join(in_words(c))
    table = [[0.5, 0.8], [0.2, 0.5]]
    assert verdict(np.array(table), each=100).verdict == "winner"
    assert verdict(np.array(table), each=4).verdict == "undecided"


def test_contexts_and_pooled_side_by_side_and_robust():
    rows = [{"model_a": "x", "model_b": "y", "winner": "model_a", "lang": "en", "n": "1"}] * 30
    rows += [{"model_a": "x", "model_b": "y", "winner": "model_b", "lang": "de", "n": "1"}] * 20
    rows += [{"model_a": "y", "model_b": "x", "winner": "model_a", "lang": "de", "n": "2"}] * 20
    found = nlhf.rank(rows, by="lang", bootstrap=200)
    assert [c.context for c in found.contexts] == ["en", "de", "pooled"]
    assert [c.winner for c in found.contexts[:2]] == ["x", "y"]
    assert [c.battles for c in found.contexts] == [30, 40, 70]
    assert found.robust is not None
    assert found.robust.lottery == pytest.approx([0.5, 0.5])
    both = nlhf.rank(rows, by=["lang", "n"], bootstrap=50)
    assert [c.context for c in both.contexts] == ["en, 1", "de, 1", "de, 2", "pooled"]
    assert [c.context for c in nlhf.rank(rows, bootstrap=50).contexts] == ["all"]
    frame = found.to_dataframe()
    assert len(frame) == 6
    assert {"context", "name", "bradley_terry", "lottery", "verdict"} <= set(frame.columns)


def test_clusters_widen_what_is_known():
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        likes = "model_a" if rng.random() < 0.6 else "model_b"
        rows += [{"model_a": "x", "model_b": "y", "winner": likes, "user": user}] * 25
    alone, whole = verdict(rows), verdict(rows, cluster="user")
    assert whole.clusters == 40
    widths = [c.items[0].high - c.items[0].low for c in (alone, whole)]
    assert widths[1] > 3 * widths[0]
    assert whole.items[0].standard_error == pytest.approx(
        5 * alone.items[0].standard_error, rel=1e-6
    )


def test_the_effect_of_being_first_is_found():
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(4000):
        a, b = rng.permutation(3)[:2]
        won = rng.random() < expit(0.5 * (b - a) + 0.4)
        names = {"model_a": f"m{a}", "model_b": f"m{b}"}
        rows.append({**names, "winner": "model_a" if won else "model_b"})
    c = verdict(rows)
    assert c.position is not None
    assert c.position.low < 0.4 < c.position.high
    assert c.position.high - c.position.low < 0.3
    # sorted pairs cannot tell
    assert verdict("sound-quality").position is None


def test_the_same_seed_gives_the_same_ranking():
    one, other = (nlhf.rank("sound-quality", bootstrap=100, seed=3) for _ in range(2))
    assert repr(one.to_json()) == repr(other.to_json())
    third = nlhf.rank("sound-quality", bootstrap=100, seed=4)
    assert repr(one.to_json()) != repr(third.to_json())


def test_transitive_and_planted_votes_at_once():
    """A few of the simulations that `experiments/verdicts.py` makes 200 of."""
    rng = np.random.default_rng(2)
    found = [verdict(transitive(8, n, rng)[0]).verdict for n in (1000, 5000, 20000)]
    assert "cycle" not in found
    assert [verdict(planted_cycle(6, 20000, rng)).verdict for _ in range(3)] == ["cycle"] * 3
