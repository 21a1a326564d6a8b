"""Answers with ranks, scores or an order such as A>B."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from nlhf.errors import InputError
from nlhf.language.reading import read_comparisons, read_examples, read_prompts
from tests.nlhf.language.comparing import better_first


def answers(**of: list[float]) -> list[dict[str, Any]]:
    ((key, values),) = of.items()
    return [{"text": f"answer {v:g}", key: v, "model": "m"} for v in values]


@pytest.mark.parametrize(
    ("row", "best_to_worst"),
    [
        ({"answers": answers(rank=[2, 1, 3])}, [1, 2, 3]),
        ({"completions": answers(overall_score=[4, 9.5, 7])}, [9.5, 7, 4]),
        ({"responses": answers(rating=[0, -1])}, [0, -1]),
    ],
)
def test_ranked_answers_give_all_pairs_and_the_best_one_to_learn(
    row: dict[str, Any], best_to_worst: list[float]
) -> None:
    rows = [{"prompt": "name a tree", **row}]
    texts = [f"answer {v:g}" for v in best_to_worst]
    pairs = [better_first(c) for c in read_comparisons(rows).kept]
    assert pairs == [(a, b, 1.0) for a, b in itertools.combinations(texts, 2)]
    assert [e.completion for e in read_examples(rows).kept] == texts[:1]
    assert read_prompts(rows).kept == ["name a tree"]


def test_ranked_answers_may_tie() -> None:
    row = {"prompt": "p", "answers": answers(score=[2, 1, 2])}
    assert [better_first(c)[2] for c in read_comparisons([row]).kept] == [0.5, 1, 1]
    with pytest.raises(InputError, match="answers: a tie: no answer is the best, to be learned"):
        read_examples([row])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([{"text": "a", "rank": 1}], "answers: fewer than two answers"),
        ([{"text": "a", "rank": 1}, {"text": "b", "score": 1}], "answers: all answers must have"),
        ([{"text": "a", "rank": 1}, {"rank": 2}], "answers: an answer must have one of text"),
        ([{"text": "a", "rank": "x"}, {"text": "b", "rank": 2}], "answers.rank: 'x' must be a num"),
    ],
)
def test_ranked_answers_that_cannot_be_compared(given: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        read_comparisons([{"prompt": "p", "answers": given}])


@pytest.mark.parametrize(
    ("word", "share"),
    [("A>B", 1), ("[[A>>B]]", 1), ("B>A", 0), ("A<B", 0), ("[[A=B]]", 0.5), ("b<<a", 1)],
)
def test_verdicts_as_judges_of_arenas_write_them(word: str, share: float) -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "label": word}
    (c,) = read_comparisons([row]).kept
    assert (c.a, c.b, c.share) == ("x", "y", share)


def test_an_order_of_other_sides_is_refused() -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "label": "A>C"}
    with pytest.raises(InputError, match="'A>C' is neither response_a, response_b nor tie"):
        read_comparisons([row])


def test_two_scored_answers() -> None:
    row = {"question": "p", "answer_0": "x", "answer_1": "y", "score_0": -0.5, "score_1": 1.0}
    (c,) = read_comparisons([row]).kept
    assert c.share == 0
    del row["score_1"]
    with pytest.raises(InputError, match="score_1: missing"):
        read_comparisons([row])
