"""A command reports what it has read before it works, and its log keeps the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.card import Card, cards_of
from bridge.runlog import read_run
from tests.bioplaus import idx_files
from tests.command_line import call, refused

JUDGE = "tests.trainers:longer_wins"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def told(log: Path, command: str, *args: object) -> Card:
    """Run a command; give the card of its log, which stderr shows as well."""
    where = "--log" if command == "preference-train" else "--out"
    result = call(command, *args, where, log, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["log"] == str(log)
    (card,) = cards_of(read_run(log).events)
    assert result.stderr.startswith(card.line() + "\n")
    assert [x for x in result.stderr.splitlines() if x.startswith("warning: ")] == [
        f"warning: {text}" for text in card.warnings
    ]
    return card


def test_of_votes(tmp_path: Path) -> None:
    game = tmp_path / "votes.csv"
    game.write_text(
        "context,item_a,item_b,wins_a,wins_b,ties\n"
        "x,a,b,9,1,2\nx,b,c,9,1,0\nx,c,d,0,0,0\n"
        "y,a,b,1,0,0\ny,c,d,2,1,1\n"
    )
    card = told(tmp_path / "n.h5", "nash-md", "--game", game, "--iterations", "2")
    assert card.source == str(game)
    assert (card.facts["battles"], card.facts["ties"]) == (27, 3)
    assert (card.facts["items"], card.facts["contexts"], card.facts["pairs"]) == (4, 2, 6)
    assert card.facts["sets that no battle joins"] == 2
    never = ["x: a and c", "x: a and d", "x: b and d", "x: c and d"]
    never += [f"y: {a} and {b}" for a in "ab" for b in "cd"]
    assert sorted(card.facts["never compared"]) == never
    assert card.facts["pairs never compared"] == len(never)
    assert (card.facts["items without a vote"], card.facts["without a vote"]) == (1, ["x: d"])


def test_the_votes_of_nash_md_are_those_of_rank(tmp_path: Path) -> None:
    game = tmp_path / "v.csv"
    game.write_text("item_a,item_b,wins_a,wins_b,ties\na,b,9,1,2\nb,c,9,1,0\n")
    nash = told(tmp_path / "n.h5", "nash-md", "--game", game, "--iterations", "2")
    rank = told(tmp_path / "r.h5", "rank", game, "--bootstrap", "10")
    shared = {k: v for k, v in rank.facts.items() if v is not None and k != "clusters"}
    assert shared.items() <= nash.facts.items()
    assert nash.facts["never compared"] == ["a and c"]


@pytest.mark.parametrize(("game", "items"), [("roshambo", 43), ("elo", 4)])
def test_of_a_game_without_votes(game: str, items: int, tmp_path: Path) -> None:
    card = told(tmp_path / "n.h5", "nash-md", "--game", game, "--iterations", "2")
    assert (card.source, card.facts["items"]) == (game, items)
    assert "battles" not in card.facts
    assert card.facts["pairs never compared"] == card.facts["items without a vote"] == 0


def test_of_a_tournament(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", *({"prompt": each} for each in "xyzx"))
    files = {
        "a": ["s", "s", " ", "t"],  # the last one is to a prompt that is not asked
        "b": ["s", "u", "v", "t"],
        "c": ["s", "u", "v", "w"],
    }
    paths = [
        lines(
            tmp_path / f"{name}.jsonl",
            *({"prompt": q, "answer": text} for q, text in zip("xyzw", texts, strict=True)),
        )
        for name, texts in files.items()
    ]
    a, b, c = map(str, paths)
    args = ["tournament", "--policies", *paths, "--prompts", prompts, "--preference", JUDGE]
    card = told(tmp_path / "t.h5", *map(str, args))
    assert card.facts["prompts"] == 4
    assert card.facts["prompts given again"] == 1
    assert (card.facts["models"], card.facts["answers in a file"]) == ([], {a: 4, b: 4, c: 4})
    assert card.facts["of them to prompts not asked"] == {a: 1, b: 1, c: 1}
    assert card.facts["empty answers"] == {a: 1}
    assert card.facts["answers that another prompt has too"] == {a: 1}
    same = {f"{a} and {b}": 1, f"{a} and {c}": 1, f"{b} and {c}": 3}
    assert card.facts["identical answers"] == same
    assert f"1 answers of {a} are empty" in card.warnings
    assert [w for w in card.warnings if "apart" in w] == [
        f"{b} and {c} give the same answers to all prompts: nothing can tell them apart"
    ]
    for option in ("draws=2", "generation.temperature=2"):
        assert refused(call(*map(str, args), "--set", option), option, "has no effect")


def test_of_images(tmp_path: Path) -> None:
    content = idx_files.arrays()
    content["train images"][4] = content["train images"][0]
    content["test images"][0] = content["train images"][2]
    content["test images"][2] = 0
    folder = idx_files.write(tmp_path / "images", content)
    small = ["--hidden", "4", "--epochs", "1", "--set", "batch_size=5", "--dataset", folder]
    card = told(tmp_path / "e.h5", "eqprop-run", *small)
    assert card.source == "images"
    assert (card.facts["train images"], card.facts["test images"]) == (5, 3)
    assert card.facts["train images a class"] == {"0": 2, "1": 2, "2": 1, "3": 0}
    assert card.facts["test images a class"] == {"0": 0, "1": 1, "2": 1, "3": 1}
    assert card.facts["classes in the test set only"] == "3"
    assert card.facts["images of one grey level"] == 1
    assert card.facts["training images seen before"] == 1
    assert card.facts["test images that are in the training set"] == 1
    assert card.warnings


def test_of_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(10)]
    rows += [{"prompt": "p0", "chosen": "bad", "rejected": "good"}]
    rows += [{"prompt": "p1", "chosen": "same", "rejected": "same"}]
    rows += [{"prompt": "p2", "chosen": "", "rejected": "bad"}]
    rows += [{"prompt": " ", "chosen": "good", "rejected": "bad"}]
    pairs = lines(tmp_path / "pairs.jsonl", *rows)
    card = told(
        tmp_path / "p.h5", "preference-train", "--pairs", pairs, "--out", tmp_path / "m",
        "--epochs", "1",
    )  # fmt: skip
    assert (card.source, card.facts["pairs"], card.facts["left out"]) == (str(pairs), 13, 1)
    assert card.facts["identical answers"] == card.facts["pairs decided both ways"] == 1
    assert card.facts["empty answers"] == card.facts["lines left out"] == 1
    assert card.facts["empty"] == ["line 14: prompt"]
    assert len(card.warnings) == 4
    lines(pairs, {"prompt": "", "chosen": "good", "rejected": "bad"})
    bad = call("preference-train", "--pairs", pairs, "--out", tmp_path / "n")
    assert refused(bad, "pairs.jsonl:1: prompt: empty, as in all lines")


MODEL = ["--model", "tiny:a,b,<end>"]


def test_of_prompts_of_which_one_is_empty(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    prompts = lines(tmp_path / "p.jsonl", *({"prompt": each} for each in ("a", " ", "b")))
    args = [*MODEL, "--prompts", prompts, "--preference", JUDGE, "--iterations", "1"]
    args += ["--set", "generation.max_new_tokens=1", "--save", tmp_path / "m"]
    card = told(tmp_path / "n.h5", "nash-md", *args)
    assert (card.facts["prompts"], card.facts["lines left out"]) == (2, 1)
    assert card.facts["empty"] == ["line 2: prompt"]
    assert "1 lines are left out, for something in them is empty: line 2: prompt" in card.warnings
    facts = json.loads(read_run(tmp_path / "n.h5").meta["dataset"])
    assert facts["prompts"] == 2


def test_of_examples_of_which_one_is_empty(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    rows = [{"prompt": "a", "completion": text} for text in ("a", "", "b")]
    examples = lines(tmp_path / "e.jsonl", *rows)
    args = [*MODEL, "--examples", examples, "--set", "holdout=0", "--save", tmp_path / "m"]
    card = told(tmp_path / "w.h5", "warm-start", *args)
    assert (card.facts["examples to learn from"], card.facts["lines left out"]) == (2, 1)
    assert card.facts["empty"] == [f"{examples}, line 2: completion"]
    lines(examples, rows[1])
    result = call("warm-start", *args, "--out", tmp_path / "x.h5", "--overwrite")
    assert refused(result, "e.jsonl:1: completion: empty", "no line has both")
