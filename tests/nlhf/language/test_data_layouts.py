"""Every layout tells the same prompt and answers; what cannot be used is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nlhf.errors import InputError
from nlhf.language.comparisons import Comparison
from nlhf.language.prompts import text_of
from nlhf.language.reading import (
    layouts,
    read_answers,
    read_comparisons,
    read_examples,
    read_prompts,
    registry,
)
from tests.nlhf.language.comparing import better_first

CASES = Path(__file__).parents[2] / "cases"
THINGS = ["tree", "river", "stone", "colour"]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def one(row: dict[str, Any]) -> Comparison:
    (found,) = read_comparisons([row]).kept
    return found


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("array.json", "TRL explicit prompt"),
        ("explicit_messages.jsonl", "TRL explicit prompt"),
        ("content_parts.jsonl", "TRL explicit prompt"),
        ("implicit.jsonl", "TRL implicit prompt"),
        ("implicit_texts.jsonl", "TRL implicit prompt"),
        ("ultrafeedback.jsonl", "UltraFeedback-binarized"),
        ("hh.jsonl", "HH-RLHF transcripts"),
        ("reward_bench.jsonl", "RewardBench"),
        ("alpaca_eval.jsonl", "AlpacaEval"),
        ("shp.jsonl", "SHP"),
        ("arena_conversations.jsonl", "arena conversations"),
        ("sharegpt.jsonl", "ShareGPT"),
        ("ranked.jsonl", "ranked answers"),
    ],
)
def test_the_files_of_people(name: str, layout: str) -> None:
    read = read_comparisons(CASES / name)
    assert read.account.layouts == {layout: 4}
    assert read.left_out == ()
    for n, (c, thing) in enumerate(zip(read.kept, THINGS, strict=True)):
        assert text_of(c.prompt).rstrip(":").endswith(f"name a {thing}")
        assert "yes" not in text_of(c.prompt)
        said = [each.strip() for each in better_first(c)[:2]]
        if name == "alpaca_eval.jsonl" and n % 2:
            assert said == ["no", "yes, gladly"]
        else:
            assert (said[0][:3], said[1]) == ("yes", "no")
        assert better_first(c)[2] == 1.0
    prompts = [c.prompt for c in read.kept]
    assert read_prompts(CASES / name).kept == prompts
    examples = read_examples(CASES / name).kept
    assert [(e.prompt, e.completion) for e in examples] == [
        (c.prompt, better_first(c)[0]) for c in read.kept
    ]


def test_prompts_in_messages() -> None:
    read = read_prompts(CASES / "messages_prompts.jsonl")
    assert read.kept == [[user(f"name a {thing}")] for thing in THINGS]
    with pytest.raises(InputError, match="prompt: missing; the line has messages"):
        read_comparisons(CASES / "messages_prompts.jsonl")
    with pytest.raises(InputError, match="completion: missing"):
        read_examples(CASES / "messages_prompts.jsonl")


CHAT = {"chosen": [user("q"), assistant("yes")], "rejected": [user("q"), assistant("no")]}
TWO = {"prompt": "q", "response_a": "yes", "response_b": "no"}
TALKS = {"conversation_a": CHAT["chosen"], "conversation_b": CHAT["rejected"]}
SHP = {"history": "q", "human_ref_A": "yes", "human_ref_B": "no"}
ALPACA = {"instruction": "q", "output_1": "yes", "output_2": "no"}
Q, YES, NO = [user("q")], "yes", "no"
KINDS: list[tuple[dict[str, Any], Any, str, str, float]] = [
    ({"Prompt": "q", "Chosen": "yes", "Rejected": "no"}, "q", YES, NO, 1),
    ({"question": "q", "chosen": "yes", "rejected": "no", "system": ""}, "q", YES, NO, 1),
    ({"question": "q", "chosen": "yes", "rejected": "no", "system": "s"},
     [system("s"), user("q")], YES, NO, 1),
    ({"prompt": user("q"), "chosen": assistant("yes"), "rejected": assistant("no")}, Q, YES, NO, 1),
    ({"prompt": Q, "chosen": [assistant("yes")], "rejected": "no"}, Q, YES, NO, 1),
    ({"prompt": [{"role": "developer", "content": "s"}, user("q")], **CHAT},
     [system("s"), user("q")], YES, NO, 1),
    ({"prompt": "q", "chosen": [assistant("yes")], "rejected": [assistant("no")]}, "q", YES, NO, 1),
    ({"prompt": "s", "chosen": [system("s"), *CHAT["chosen"]],
      "rejected": [system("s"), *CHAT["rejected"]]}, [system("s"), user("q")], YES, NO, 1),
    ({"prompt": json.dumps(Q), **CHAT}, Q, YES, NO, 1),
    ({"prompt": [{**user("q"), "name": None, "tool_calls": None}], **CHAT}, Q, YES, NO, 1),
    ({"chosen": "The sky is blue.", "rejected": "The sky is green."},
     "The sky is", " blue.", " green.", 1),
    # the prompt ends between two words
    ({"chosen": "The sky is black", "rejected": "The sky is blue"},
     "The sky is", " black", " blue", 1),
    ({"chosen": [user("a"), assistant("b"), *CHAT["chosen"]],
      "rejected": [user("a"), assistant("b"), *CHAT["rejected"]]},
     [user("a"), assistant("b"), user("q")], YES, NO, 1),
    ({"prompt": "q", **CHAT, "score_chosen": 8, "score_rejected": 8.0}, Q, YES, NO, 0.5),
    ({"prompt": "q", **CHAT, "score_chosen": None, "score_rejected": None}, Q, YES, NO, 1),
    ({"instruction": "q", "chosen_response": "yes", "rejected_response": "no",
      "chosen_avg_rating": 4.5, "rejected_avg_rating": 1}, "q", YES, NO, 1),
    ({"chosen": "Human: q\n\nAssistant: yes\n\nand more", "rejected": "Human: q\n\nAssistant: no"},
     Q, "yes\n\nand more", NO, 1),
    ({"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: yet"},
     Q, YES, "yet", 1),
    ({"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant:"},
     Q, YES, "", 1),
    ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " yes", "rejected": " no"}, Q, YES, NO, 1),
    ({"chosen": "### Human: q ### Assistant: yes", "rejected": "### Human: q ### Assistant: no"},
     Q, YES, NO, 1),
    # an answer that looks like a transcript is an answer
    ({"prompt": "write", "chosen": "User: a\n\nAssistant: b", "rejected": "no"},
     "write", "User: a\n\nAssistant: b", NO, 1),
    ({**ALPACA, "preference": 2}, "q", NO, YES, 1),
    ({**ALPACA, "preference": 1.25}, "q", YES, NO, 0.75),
    ({**ALPACA, "preference": 1.5}, "q", YES, NO, 0.5),
    ({**ALPACA, "preference": 0}, "q", YES, NO, 0.5),
    ({**ALPACA, "input": "i", "preference": 1}, "q\n\ni", YES, NO, 1),
    ({**SHP, "labels": 0, "score_A": 1, "score_B": 3}, "q", NO, YES, 1),
    ({**SHP, "score_A": 3, "score_B": 1}, "q", YES, NO, 1),
    ({**SHP, "labels": None, "score_A": 3, "score_B": 3}, "q", YES, NO, 0.5),
    ({**TALKS, "winner": "tie (bothbad)"}, Q, YES, NO, 0.5),
    ({**TALKS, "winner": "model_b"}, Q, NO, YES, 1),
    ({**TALKS, "winner": "birch", "model_a": "alder", "model_b": "birch"}, Q, NO, YES, 1),
    # the vote is of the first turn
    ({"conversation_a": [*CHAT["chosen"], user("r"), assistant("s")],
      "conversation_b": [*CHAT["rejected"], user("r"), assistant("t")],
      "winner": "model_a", "turn": 1}, Q, YES, NO, 1),
    ({**TWO, "winner": "model_b"}, "q", NO, YES, 1),
    ({**TWO, "winner": "tie"}, "q", YES, NO, 0.5),
    ({"prompt": "q", "response_0": "yes", "response_1": "no", "better_response_id": 1},
     "q", NO, YES, 1),
    ({"context": Q, "response1": "yes", "response2": "no", "overall_preference": -2},
     Q, YES, NO, 1),
    ({"prompt": '["q"]', "response_a": '["yes"]', "response_b": '["no"]', "winner_model_a": 0,
      "winner_model_b": 1, "winner_tie": 0}, Q, NO, YES, 1),
    ({**TWO, "votes_a": 2, "votes_b": 1, "ties": 1}, "q", YES, NO, 0.625),
    ({"system": "s", "conversations": [{"from": "human", "value": "q"}], "chosen": "yes",
      "rejected": {"from": "gpt", "value": "no"}}, [system("s"), user("q")], YES, NO, 1),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt", "better", "worse", "share"), KINDS)
def test_kinds_of_rows(
    row: dict[str, Any], prompt: Any, better: str, worse: str, share: float
) -> None:
    found = one(row)
    assert found.prompt == prompt
    assert better_first(found) == (better, worse, share)


def test_several_wrong_answers_are_as_many_pairs() -> None:
    row = {
        "prompt": "q",
        "chosen": ["yes"],
        "rejected": ["n", "m"],
        "num_correct": 1,
        "subset": "s",
    }
    kept = read_comparisons([row]).kept
    assert [better_first(c) for c in kept] == [("yes", "n", 1), ("yes", "m", 1)]
    assert {c.share for c in kept} == {0.0, 1.0}  # not all on one side


def test_what_follows_the_turn_in_which_two_conversations_differ_belongs_to_the_answer() -> None:
    more = [user("r"), assistant("s")]
    talks = {"chosen": [*CHAT["chosen"], *more], "rejected": CHAT["rejected"]}
    read = read_comparisons([talks])
    assert read.kept[0].prompt == Q
    assert better_first(read.kept[0])[:2] == ("yes\n\nHuman: r\n\nAssistant: s", "no")
    assert list(read.account.layouts) == ["TRL implicit prompt, answers of several turns"]
    with pytest.raises(InputError, match="several turns"):
        read_examples([talks])
    assert read_prompts([talks]).kept == [Q]


UNUSABLE = [
    ({"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{"name": "f"}]}, "tools are not"),
    ({"chosen": [user("q"), {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
      "rejected": CHAT["rejected"]}, "chosen: tools are not read"),
    ({"prompt": [user("q"), {"role": "tool", "content": "3"}], **CHAT}, "role='tool': tools"),
    ({"conversations": [{"from": "observation", "value": "o"}], "chosen": "a", "rejected": "b"},
     "role='observation': tools"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "images": ["a.png"]}, "images: images"),
    ({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}},
                                              {"type": "text", "text": "q"}]}],
      "chosen": "a", "rejected": "b"}, "prompt: images, sound or video are not read"),
    ({"chosen": [user("q"), assistant("b"), *CHAT["chosen"]],
      "rejected": [user("q"), assistant("b"), user("r"), assistant("no")]}, "different prompts"),
    ({"chosen": [user("q")], "rejected": [user("q")]}, "ends with the user"),
    ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: r\n\nAssistant: a"},
     "different prompts"),
    ({"prompt": "q", **CHAT, "score_chosen": 1, "score_rejected": 8}, "scores less"),
    ({"prompt": " ", "chosen": "a", "rejected": "b"}, "prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "words"), UNUSABLE)
def test_a_row_of_no_use_is_left_out_counted_and_named(row: dict[str, Any], words: str) -> None:
    good = {"prompt": "q", "chosen": "yes", "rejected": "no", "tools": [], "images": None}
    read = read_comparisons([good, row, good])
    assert len(read.kept) == 2
    (named,) = read.left_out
    assert named.startswith("record 2: ")
    assert words in named
    with pytest.raises(InputError, match="record 1: ") as alone:
        read_comparisons([row])
    assert "\n" not in str(alone.value)


MALFORMED = [
    ({}, "prompt: missing; the line has no keys"),
    ({"prompt": "q", "chosen": "a", "rejected": None}, "rejected: null"),
    ({"prompt": None, "chosen": "The a", "rejected": "The b"}, "prompt: null"),
    ({"chosen": "a", "rejected": "b"}, "prompt: missing"),
    ({"prompt": True, "chosen": "a", "rejected": "b"}, "prompt: .*a truth value"),
    ({"prompt": "q", "chosen": [], "rejected": "b"}, "chosen: .*an empty list"),
    ({"prompt": [*Q, assistant("a")], **CHAT}, "prompt: ends with the assistant"),
    ({"prompt": [system("s")], "chosen": "a", "rejected": "b"}, "prompt: must end with the user"),
    ({"prompt": [{"role": "user", "content": None}], "chosen": "a", "rejected": "b"}, "a message"),
    ({"prompt": [{"role": "user", "content": [{"type": "poem", "text": "x"}]}], **CHAT}, "'poem'"),
    ({**ALPACA, "preference": 7}, "preference: 7"),
    ({**ALPACA, "preference": None}, "preference: null"),
    ({**ALPACA, "preference": "much"}, "preference: 'much' must be a number"),
    ({**SHP, "labels": 2}, "labels: 2 must be 1"),
    ({**SHP}, "labels: missing"),
    ({**TALKS, "winner": "model_c"}, "winner: 'model_c' is neither"),
    ({**TALKS, "winner": None}, "winner: null"),
    ({**TWO, "winner_model_a": 1, "winner_model_b": 1, "winner_tie": 0}, "one of winner_model_a"),
    ({"prompt": "q", **CHAT, "score_chosen": "high", "score_rejected": 1}, "score_chosen: 'high'"),
    ({"prompt": "q", "completion": "a", "label": True}, "response_a: missing"),
]


@pytest.mark.parametrize(("row", "words"), MALFORMED)
def test_a_malformed_row_refuses_the_source_or_is_skipped(row: dict[str, Any], words: str) -> None:
    good = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    with pytest.raises(InputError, match=f"record 2: .*{words}.*on_bad_lines=skip"):
        read_comparisons([good, row])
    read = read_comparisons([good, row], "skip")
    assert len(read.kept) == 1
    assert len(read.left_out) == 1


def test_malformed_rows_are_counted() -> None:
    rows = [{"prompt": "q", "chosen": 1, "rejected": "no"}] * 7 + [{"prompt": "q", **CHAT}]
    with pytest.raises(InputError, match="7 of 8 records are malformed: 1, 2, 3, 4, 5, "):
        read_comparisons(rows)


def test_layouts_mix_in_one_source(tmp_path: Path) -> None:
    plain = {"prompt": "q", "chosen": "a", "rejected": "b"}
    rows = [{**plain, "messages": None}, CHAT, {**ALPACA, "preference": 1}, plain]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    read = read_comparisons(path)
    assert len(read.kept) == 4
    counted = {"TRL explicit prompt": 2, "TRL implicit prompt": 1, "AlpacaEval": 1}
    assert read.account.layouts == counted


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"messages": [system("s"), user("q"), assistant("a")]}, [system("s"), user("q")], "a"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
         Q, "a"),
        ({"messages": [user("x"), assistant("y"), user("q"), assistant("a")]},
         [user("x"), assistant("y"), user("q")], "a"),
        ({"instruction": "q", "input": "", "output": "a"}, "q", "a"),
        ({"prompt": Q, "completion": [assistant("a")]}, Q, "a"),
        # a completion comes before what was preferred
        ({"prompt": "q", "completion": "a", "chosen": "b", "rejected": "c"}, "q", "a"),
        ({"prompt": "q", **CHAT, "messages": [user("q"), assistant("a")]}, Q, "a"),
    ],
)  # fmt: skip
def test_answers_to_learn(row: dict[str, Any], prompt: Any, answer: str) -> None:
    (example,) = read_examples([row]).kept
    assert (example.prompt, example.completion) == (prompt, answer)
    assert list(read_answers([row]).values()) == [answer]


def test_a_tie_has_no_answer_to_learn_and_other_keys_spoil_no_prompt() -> None:
    with pytest.raises(InputError, match="a tie"):
        read_examples([{**ALPACA, "preference": 1.5}])
    assert read_prompts([{"prompt": "q", "chosen": 3}, {"prompt": "r", "rejected": None}]).kept == [
        "q",
        "r",
    ]
    assert read_prompts([{**TALKS, "winner": None}]).kept == [Q]


LAYOUT = """
from nlhf.language.reading.layout import Layout, Pair, compared
from nlhf.language.reading.turns import turns_of


def _read(row):
    asked, *answers = (row.value(key) for key in ("frage", "gut", "schlecht"))
    turns = turns_of(asked, *answers, ("gut", "schlecht"))
    return compared(turns, lambda: [Pair(*turns.answers(), sided=True)])


LAYOUT = Layout("auf Deutsch", (("frage",), ("gut",), ("schlecht",)), _read, pairs=True)
"""


def test_a_layout_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deutsch.py").write_text(LAYOUT)
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    registry.all_layouts.cache_clear()
    try:
        read = read_comparisons([{"frage": "q", "gut": "ja", "schlecht": "nein"}])
    finally:
        registry.all_layouts.cache_clear()
    assert read.account.layouts == {"auf Deutsch": 1}
    assert better_first(read.kept[0]) == ("ja", "nein", 1.0)


def test_the_documentation_names_every_layout() -> None:
    page = (Path(__file__).parents[3] / "docs" / "preference-data.md").read_text()
    assert [each.name for each in registry.all_layouts() if f"| {each.name} |" not in page] == []
