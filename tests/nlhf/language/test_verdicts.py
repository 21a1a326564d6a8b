"""What a chat model's reply says of two answers, and what is too doubtful to be taken."""

import math

import pytest

from nlhf.language.remote.verdicts import Unreadable, find_label, read_verdict


def top(token, *listed):
    return {
        "token": token,
        "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in listed],
    }


def completion(text, *tokens):
    choice = {"message": {"content": text}}
    return {"choices": [choice | ({"logprobs": {"content": list(tokens)}} if tokens else {})]}


@pytest.mark.parametrize(
    ("body", "p"),
    [
        (completion("A", top("A", ("A", 0.6), ("B", 0.2), ("C", 0.1))), 0.65 / 0.9),
        (completion("A", top("A", (" A", 0.3), ("A", 0.3), ("B.", 0.2))), 0.75),
        (completion(" B", top(" ", (" ", 1.0)), top("B", ("B", 0.5), ("A", 0.25))), 1 / 3),
        (completion("[[B]]", top("[[", ("[[", 1)), top("B", ("A", 0.1), ("B", 0.3)), top("]]")),
         0.25),
        (completion("A", top("A", ("x", 0.9))), 1.0),
        (completion("B", {"token": "B", "logprob": -0.1}), 0.0),
        (completion("B", {"token": 3}), 0.0),
        (completion("A", top("A", ("A", float("inf")))), 1.0),
        (completion("C"), 0.5),
        (completion("<think>A is good, [[A]]?</think>\nB"), 0.0),
        (completion("The better answer is: **B**."), 0.0),
        (completion("Answer: A\nbecause it is short"), 1.0),
        (completion("Both are fine, but the second is better. [[A]] no, [[B]]"), 0.0),
        (completion("A is better"), 1.0),
        (completion([{"type": "text", "text": "B"}]), 0.0),
    ],
)  # fmt: skip
def test_a_reply_is_read_as_it_is_meant(body, p):
    assert read_verdict(body, ("A", "B", "C"), True).p == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "A good answer", "Apples", "neither", "<think>A", "BA", "a tie", "As an AI, B"]
)
def test_a_doubtful_reply_is_no_verdict(text):
    with pytest.raises(Unreadable):
        find_label(text, ("A", "B"))
