"""Commands on real-world data files: what is read is reported, what is skipped is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.card import Card, cards_of
from bridge.runlog import read_run
from tests.command_line import call, refused

CASES = Path(__file__).parent / "cases"
JUDGE = ["--preference", "tests.trainers:longer_wins"]
WORDS = "name,a,tree,river,stone,colour,hello,be,kind,yes,no,<end>"
MODEL = ["--model", f"tiny:{WORDS}", "--set", "generation.max_new_tokens=2"]
LAYOUTS = {
    "array.json": "TRL explicit prompt",
    "explicit_messages.jsonl": "TRL explicit prompt",
    "content_parts.jsonl": "TRL explicit prompt",
    "implicit.jsonl": "TRL implicit prompt",
    "implicit_texts.jsonl": "TRL implicit prompt",
    "ultrafeedback.jsonl": "UltraFeedback-binarized",
    "hh.jsonl": "HH-RLHF transcripts",
    "reward_bench.jsonl": "RewardBench",
    "alpaca_eval.jsonl": "AlpacaEval",
    "shp.jsonl": "SHP",
    "arena_conversations.jsonl": "arena conversations",
    "sharegpt.jsonl": "ShareGPT",
    "ranked.jsonl": "ranked answers",
}


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def card_of(log: Path, *args: object) -> Card:
    """Run a command; give its card, which is on stderr and in the log."""
    result = call(*map(str, args), "--quiet")  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    (card,) = cards_of(read_run(log).events)
    return card


@pytest.mark.parametrize("name", LAYOUTS)
def test_preference_train_reads_every_layout(tmp_path: Path, name: str) -> None:
    log = tmp_path / "l.h5"
    args = ["preference-train", "--pairs", CASES / name, "--out", tmp_path / "m", "--log", log]
    result = call(*map(str, args), "--epochs", "1", "--json")  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    assert f"layout {LAYOUTS[name]}: 4, pairs 4, prompts 4" in result.stderr
    (card,) = cards_of(read_run(log).events)
    assert card.facts["layout"] == {LAYOUTS[name]: 4}
    said = json.loads(result.stdout)
    assert said["learned_from"] + said["held_out"]["n"] < 5


@pytest.mark.parametrize("name", ["hh.jsonl", "messages_prompts.jsonl", "explicit_messages.jsonl"])
def test_nash_md_asks_the_prompts_of_any_layout(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers")
    log = tmp_path / "n.h5"
    args = ["--prompts", CASES / name, *JUDGE, "--iterations", 1, "--set", "batch_size=2"]
    card = card_of(log, "nash-md", *MODEL, *args, "--out", log)
    layout = {"messages_prompts.jsonl": "messages"}.get(name) or LAYOUTS[name]
    assert (card.facts["layout"], card.facts["prompts"]) == ({layout: 4}, 4)


@pytest.mark.parametrize("name", ["sharegpt.jsonl", "ultrafeedback.jsonl", "alpaca_eval.jsonl"])
def test_warm_start_learns_what_was_preferred(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers")
    log = tmp_path / "w.h5"
    args = ["--examples", CASES / name, "--save", tmp_path / "m", "--out", log]
    card = card_of(log, "warm-start", *MODEL[:2], *args)
    told = "messages" if name.startswith("ultra") else LAYOUTS[name]
    assert card.facts["layout"] == {told: 4}
    assert card.facts["examples to learn from"] + card.facts["examples held out"] == 4


def test_a_tournament_of_outputs_as_alpaca_eval_has_them(tmp_path: Path) -> None:
    things = ("tree", "river", "stone", "colour")
    for policy, said in (("alder", "yes, gladly"), ("birch", "no")):
        rows = [{"instruction": f"name a {t}", "output": said, "generator": policy} for t in things]
        (tmp_path / f"{policy}.json").write_text(json.dumps(rows, indent=1))
    log, policies = tmp_path / "t.h5", [tmp_path / "alder.json", tmp_path / "birch.json"]
    card = card_of(log, "tournament", "--policies", *policies, "--prompts",
                   CASES / "alpaca_eval.jsonl", *JUDGE, "--out", log)  # fmt: skip
    assert card.facts["layout"] == {"AlpacaEval": 4}
    summary = next(e for e in read_run(log).events if e["kind"] == "summary")
    assert summary["of"]["policies"][0]["mean"] > 0.9


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes((CASES / "ultrafeedback.jsonl").read_bytes())
    log = tmp_path / "l.h5"
    card = card_of(log, "preference-train", "--pairs", f"hf:{folder}:train", "--epochs", 1,
                   "--out", tmp_path / "m", "--log", log)  # fmt: skip
    assert (card.source, card.facts["read as"]) == (f"hf:{folder}:train", "a data set")
    assert len(json.loads(read_run(log).meta["dataset"])["sha256"]) == 64


GOOD = [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no"} for i in range(6)]
TOOLS = {**GOOD[0], "tools": [{"name": "search"}]}
IMAGE = {**GOOD[0], "prompt": [{"role": "user", "content": [{"type": "image"}]}]}


def train(tmp_path: Path, pairs: Path, *options: object) -> Any:
    args = ["--pairs", pairs, "--out", tmp_path / "m", "--log", tmp_path / "l.h5", "--epochs", 1]
    return call("preference-train", *args, *options)


def test_refused_lines_are_counted_and_named(tmp_path: Path) -> None:
    pairs = lines(tmp_path / "p.jsonl", GOOD[0], TOOLS, *GOOD[1:], IMAGE)
    result = train(tmp_path, pairs)
    assert result.exit_code == 0, result.output
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: 2")]
    assert "2 of 8 lines are refused and left out: line 2: tools: tools are not read" in warning
    assert "line 8: prompt: images" in warning
    (card,) = cards_of(read_run(tmp_path / "l.h5").events)
    assert (card.facts["pairs"], card.facts["lines left out"]) == (6, 2)
    assert [each.partition(":")[0] for each in card.facts["refused"]] == ["line 2", "line 8"]


@pytest.mark.parametrize("row", [TOOLS, IMAGE])
def test_tools_and_images_are_refused_in_one_line(tmp_path: Path, row: dict[str, Any]) -> None:
    pairs = lines(tmp_path / "p.jsonl", row, row)
    assert refused(train(tmp_path, pairs), "p.jsonl:1: ", "only text; none of 2 lines can be used")
    assert not (tmp_path / "m").exists()
    pytest.importorskip("transformers")
    out = ["--out", tmp_path / "n.h5"]
    asked = call("nash-md", *MODEL, "--prompts", pairs, *JUDGE, *out)
    assert refused(asked, "p.jsonl:1: ", "only text")


def test_malformed_lines_are_skipped_where_that_is_wanted(tmp_path: Path) -> None:
    pairs = lines(tmp_path / "p.jsonl", *GOOD, {"prompt": "q", "chosen": "yes"}, {"prompt": 3})
    assert refused(train(tmp_path, pairs), "p.jsonl:7: rejected: missing", "2 of 8 lines",
                   "--set on_bad_lines=skip")  # fmt: skip
    result = train(tmp_path, pairs, "--set", "on_bad_lines=skip")
    assert result.exit_code == 0, result.output
    assert "2 of 8 lines are refused and left out: line 7: rejected: missing" in result.stderr
    assert refused(train(tmp_path, pairs, "--set", "on_bad_lines=warn"), "on_bad_lines", "skip")


def test_a_file_of_answers_must_be_whole(tmp_path: Path) -> None:
    answers = lines(tmp_path / "a.jsonl", {"prompt": "q", "answer": "a"}, {"prompt": "r"})
    asked = call("tournament", "--policies", answers, answers.with_name("b.jsonl"), "--prompts",
                 answers, *JUDGE, "--out", tmp_path / "t.h5")  # fmt: skip
    assert refused(asked, "a.jsonl:2: completion: missing")
    assert "on_bad_lines" not in asked.stderr
