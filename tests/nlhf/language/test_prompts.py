"""JSON lines: what is read, and how a wrong line is named."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlhf.errors import InputError
from nlhf.language.comparisons import hold_out
from nlhf.language.prompts import Example, key_of, text_of
from nlhf.language.reading import read_answers, read_comparisons, read_examples, read_prompts

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def lines(path, *rows):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def test_prompts_are_text_or_messages(tmp_path):
    path = lines(tmp_path / "p.jsonl", {"prompt": "Why?", "other": 1}, "\n", {"prompt": CHAT})
    assert read_prompts(path).kept == ["Why?", CHAT]
    assert text_of(CHAT) == "Be brief.\n\nWhy?"
    assert key_of(CHAT) != key_of(text_of(CHAT))


def test_votes_and_choices_become_shares(tmp_path):
    votes = {"response_a": "yes", "response_b": "no", "votes_a": 2, "votes_b": 1, "ties": 1}
    said = {"chosen": [{"role": "assistant", "content": "yes"}], "rejected": "no"}
    path = lines(tmp_path / "c.jsonl", *({"prompt": CHAT, **row} for row in (votes, said, said)))
    first, second, third = read_comparisons(path).kept
    assert (first.share, first.votes) == (2.5 / 4, 4)
    # the chosen answer is not always the first
    assert (second.a, second.share) == ("no", 0.0)
    assert (third.a, third.share) == ("yes", 1.0)


PAIR = {"chosen": "a", "rejected": "b"}
VOTES = {"prompt": "x", "response_a": "a", "response_b": "b", "votes_a": 1, "votes_b": 1}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "no JSON"),
        ("[1]\n", "a list"),
        ('{"prompt": NaN}\n', "prompt: null"),
        ("[" * 100_000 + "\n", "no JSON"),
        ({"chosen": "a", "rejected": "b"}, "prompt: missing"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "an empty list"),
        ({"prompt": ["x"], "chosen": "a", "rejected": "b"}, "message"),
        ({"prompt": [{"role": "me", "content": "x"}], **PAIR}, "'me'"),
        ({"prompt": "x", "chosen": "a"}, "rejected: missing"),
        ({"prompt": "x", "chosen": 3, "rejected": "b"}, "a number"),
        ({"prompt": "x", "chosen": CHAT, "rejected": "b"}, "assistant"),
        ({"prompt": "x"}, "chosen: missing"),
        ({**VOTES, "votes_a": -1}, "votes_a"),
        ({**VOTES, "votes_b": True}, "votes_b"),
        ({**VOTES, "ties": "many"}, "ties"),
        ({**VOTES, "votes_a": 0, "votes_b": 0}, "no votes"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, row, words):
    path = lines(tmp_path / "bad.jsonl", VOTES, row)
    with pytest.raises(InputError, match=f"bad.jsonl:2: .*{words}"):
        read_comparisons(path)


def test_pairs_without_a_prompt_are_left_out_and_named(tmp_path):
    blank = [{"role": "user", "content": " "}]
    rows = [{"prompt": "  ", **PAIR}, {"prompt": "x", **PAIR}, {**VOTES, "prompt": blank}]
    read = read_comparisons(lines(tmp_path / "c.jsonl", *rows))
    assert ([c.prompt for c in read.kept], read.left_out) == (
        ["x"],
        ("line 1: prompt", "line 3: prompt"),
    )
    assert read.kept[0].a == "b"  # as the second line
    with pytest.raises(InputError, match=r"n.jsonl:1: prompt: empty, as in all lines"):
        read_comparisons(lines(tmp_path / "n.jsonl", {"prompt": "", **PAIR}))


def test_files_that_hold_nothing_or_something_else(tmp_path):
    with pytest.raises(InputError, match="empty"):
        read_prompts(lines(tmp_path / "e.jsonl", "\n"))
    with pytest.raises(InputError, match="No such file"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="directory"):
        read_prompts(tmp_path)
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(InputError, match="UTF-8"):
        read_prompts(tmp_path / "b.jsonl")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    path.write_bytes(data)
    try:
        read_comparisons(path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_answers_by_prompt(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"prompt": "x", "completion": "y"})
    assert read_answers(path) == {"x": "y"}
    lines(path, {"prompt": "x", "answer": "y"}, {"prompt": "x", "answer": "z"})
    with pytest.raises(InputError, match=r"a.jsonl:2: prompt: .*second"):
        read_answers(path)


def test_no_prompt_is_on_both_sides(tmp_path):
    rows = [{"prompt": f"{i % 7}", "chosen": "a", "rejected": "b"} for i in range(70)]
    all_of = read_comparisons(lines(tmp_path / "c.jsonl", *rows)).kept
    learn, out = hold_out(all_of, 0.3, "prompt", torch.Generator().manual_seed(0))
    assert len(learn) + len(out) == 70
    assert len({c.prompt for c in out}) == 2
    assert not {c.prompt for c in learn} & {c.prompt for c in out}
    assert hold_out(all_of, 0.0, "prompt", torch.Generator()) == (all_of, [])
    assert len(hold_out(all_of, 0.3, "pair", torch.Generator().manual_seed(0))[1]) == 21
    with pytest.raises(InputError, match="holdout_by=pair"):
        hold_out(all_of[:1], 0.3, "prompt", torch.Generator())


def test_brackets_are_refused_by_their_depth_not_their_number(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text(json.dumps({"prompt": "[" * 999, "other": [[]] * 999}) + "\n")
    assert read_prompts(path).kept == ["[" * 999]
    path.write_text('{"prompt": "a", "other": ' + "[" * 300 + "]" * 300 + "}\n")
    with pytest.raises(InputError, match=r"deep\.jsonl:1: no JSON: nested deeper than 200"):
        read_prompts(path)


def test_lines_with_nothing_in_them_are_left_out_and_named(tmp_path):
    blank = [{"role": "system", "content": " "}, {"role": "user", "content": "\n"}]
    rows = [{"prompt": q, "completion": a} for q, a in [(" ", "x"), ("p", "x"), ("q", "\t")]]
    rows += [{"prompt": blank, "completion": "x"}, {"prompt": CHAT, "completion": "y"}]
    path = lines(tmp_path / "e.jsonl", *rows)
    asked = read_prompts(path)
    assert asked.kept == ["p", "q", CHAT]
    assert asked.left_out == ("line 1: prompt", "line 4: prompt")
    examples = read_examples(path)
    assert examples.kept == [Example("p", "x"), Example(CHAT, "y")]
    assert examples.left_out == ("line 1: prompt", "line 3: completion", "line 4: prompt")
    assert list(read_answers(path).values()) == ["x", "\t", "y"]
    none = lines(tmp_path / "n.jsonl", rows[0], rows[2], rows[3])
    with pytest.raises(InputError, match=r"n.jsonl:1: prompt: empty, and no line has both"):
        read_examples(none)
    with pytest.raises(InputError, match=r"m.jsonl:1: prompt: empty, as in all lines"):
        read_prompts(lines(tmp_path / "m.jsonl", rows[0], rows[3]))
