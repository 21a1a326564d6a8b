"""Votes and tables: right games from right files, one clear line for anything else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlhf.errors import InputError
from nlhf.preferences.reading import load_preferences

HEADER = "context,item_a,item_b,wins_a,wins_b,ties\n"


def write(tmp_path, text, name="votes.csv"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_shipped_votes_are_the_humans():
    p = load_preferences("sound-quality")
    assert p.contexts == ("Beethoven", "Rachmaninov", "SteelyDan", "Sting")
    assert len(p.actions) == 8
    assert p.counts is not None
    assert float(p.counts.sum()) / 2 == 21924
    mono, phantom = p.actions.index("Mono"), p.actions.index("PhantomMono")
    assert float(p.P[0, mono, phantom]) == pytest.approx(68 / (68 + 127))
    assert p.never_compared == ()
    # two cyclic triads of 56 in Rachmaninov
    beats = p.P[1] > 0.5
    cycles = int(torch.trace(beats.long() @ beats.long() @ beats.long())) // 3
    assert cycles == 2


def test_shipped_table_is_antisymmetric():
    p = load_preferences("roshambo")
    assert p.P.shape == (1, 43, 43)
    assert float((p.P + p.P.mT - 1).abs().max()) < 1e-15


def test_ties_count_half_smoothing_adds_to_both_and_missing_pairs_are_even(tmp_path):
    text = HEADER + "x,a,b,3,1,2\nx,b,c,1,0,0\ny,a,b,0,4,0\n"
    p = load_preferences(write(tmp_path, text))
    assert (p.contexts, p.actions) == (("x", "y"), ("a", "b", "c"))
    assert float(p.P[0, 0, 1]) == pytest.approx(4 / 6)
    assert float(p.P[0, 0, 2]) == 0.5
    assert float(p.P[1, 1, 0]) == 1.0
    assert p.never_compared == (("x", "a", "c"),)
    assert p.present.tolist() == [[True, True, True], [True, True, False]]  # no c in y
    smooth = load_preferences(write(tmp_path, text), smoothing=1.0)
    assert float(smooth.P[0, 0, 1]) == pytest.approx(5 / 8)
    assert float(smooth.P[0, 0, 2]) == 0.5
    torch.testing.assert_close(smooth.P + smooth.P.mT, torch.ones_like(smooth.P))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    votes=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9)), min_size=3, max_size=3
    )
)
def test_every_table_of_votes_is_a_game(votes, tmp_path_factory):
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    lines = [f"x,{i},{j},{v[0]},{v[1]},{v[2]}" for (i, j), v in zip(pairs, votes, strict=True)]
    p = load_preferences(write(tmp_path_factory.mktemp("v"), HEADER + "\n".join(lines)))
    assert torch.equal(p.P + p.P.mT, torch.ones_like(p.P))
    assert p.P.min() >= 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        (HEADER, "no battles"),
        (HEADER + "x,a,b,-1,2,0\n", ":2: wins_a: -1 votes"),
        (HEADER + "x,a,b,nan,2,0\n", ":2: wins_a: nan votes"),
        (HEADER + "x,a,b,many,2,0\n", ":2: wins_a: 'many' is no number"),
        (HEADER + "x,a,a,1,2,0\nx,a,b,1,2,0\n", ":2: 'a' against itself"),
        (HEADER + "x,a,b,1,2\n", ":2: 5 values"),
        (HEADER + "x,,b,1,2,0\n", ":2: item_a is empty"),
        (HEADER + ",a,b,1,2,0\n", ":2: context is empty"),
        (HEADER + "x,a,b,,2,0\n", ":2: wins_a is empty"),
        (HEADER + "x,a,b,0.6,0.4,0\n", ":2: wins_a: 0.6 votes.*square table"),
        ("a\n0.5\n", "one column"),
        ("a,b\n0.5,0.6\n", "1 rows for 2 actions"),
        ("a,a\n0.5,0.6\n0.4,0.5\n", "two columns 'a'"),
        ("a,b\n0.5,1.6\n-0.6,0.5\n", ":3: '-0.6'"),
        ("a,b\n0.5,x\n0.4,0.5\n", ":2: 'x' is no number"),
        ("a,b\n0.5,0.6\n0.6,0.5\n", "do not sum to 1"),
        ("a,b\n0.7,0.6\n0.4,0.5\n", r"P\(a > a\)"),
    ],
)
def test_bad_files(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_preferences(write(tmp_path, text))


def test_other_bad_sources(tmp_path):
    with pytest.raises(InputError, match="'chess' is neither a file nor one of sound-quality"):
        load_preferences("chess")
    with pytest.raises(InputError, match="is a folder"):
        load_preferences(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff\x00bad")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        load_preferences(str(tmp_path / "binary"))
    with pytest.raises(InputError, match="smoothing=-1"):
        load_preferences("sound-quality", smoothing=-1)
