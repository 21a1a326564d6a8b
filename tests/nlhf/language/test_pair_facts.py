"""Pairs of which nothing can be learnt are counted, told and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlhf.errors import InputError
from nlhf.language.comparisons import Comparison
from nlhf.language.encoders import HashedEncoder
from nlhf.language.pair_facts import sift
from nlhf.language.reading import read_comparisons

CASES = Path(__file__).parents[2] / "cases"
ENCODER = HashedEncoder()


def reads(c: Comparison) -> tuple[object, object]:
    return ENCODER.reads((str(c.prompt), c.a)), ENCODER.reads((str(c.prompt), c.b))


def test_pairs_that_are_all_identical_are_refused() -> None:
    path = CASES / "identical.jsonl"
    with pytest.raises(InputError, match="4 of 4 pairs have two identical answers; nothing is"):
        sift(read_comparisons(path).kept, reads, str(path))


def test_identical_pairs_among_others_are_left_out() -> None:
    pairs = [
        Comparison("p", "a", "b", 1.0),
        Comparison("p", "a", " a\n", 1.0),  # white space is no difference
        Comparison("q", "yes, it is", "Yes: it is!", 0.0),  # the same words
        Comparison("q", "c", "d", 0.5, 3.0),
    ]
    kept, facts = sift(pairs, reads, "pairs")
    assert kept == [pairs[0], pairs[3]]
    assert facts.of["identical answers"] == 1
    assert facts.of["answers that the model reads as one"] == 1
    assert facts.of["left out"] == 2
    assert facts.of["ties"] == 1
    assert facts.of["votes"] == 6
    (warning,) = facts.warnings
    assert warning.endswith(": left out")


def test_contradictory_pairs_are_counted_and_kept() -> None:
    pairs = read_comparisons(CASES / "contradictory.jsonl").kept
    kept, facts = sift(pairs, reads, "pairs")
    assert kept == pairs
    assert facts.of["pairs decided both ways"] == 4
    assert facts.of["pairs given again"] == 4
    assert any("4 pairs are decided both ways" in w for w in facts.warnings)


def test_empty_answers_are_counted() -> None:
    _, facts = sift(read_comparisons(CASES / "empty_answers.jsonl").kept, reads, "pairs")
    assert facts.of["empty answers"] == 4
    assert any("4 answers are empty" in w for w in facts.warnings)
    blank = [Comparison("p", " \n", "", 1.0), Comparison("p", "a", "\t", 1.0)]
    kept, facts = sift(blank, reads, "pairs")
    assert kept == blank[1:]
    assert facts.of["empty answers"] == 3


def test_answers_that_are_cut_to_one_are_left_out() -> None:
    pairs = [Comparison("p", "same start, one end", "same start, other", 1.0)]
    pairs.append(Comparison("p", "other start", "same start", 1.0))
    kept, facts = sift(pairs, lambda c: (c.a[:10], c.b[:10]), "pairs")
    assert kept == pairs[1:]
    assert facts.of["answers that the model reads as one"] == 1
