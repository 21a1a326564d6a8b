"""Malformed JSON lines, given to the commands that read them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.bad_input.noise import noise, word
from tests.bad_input.refusing import Maker, refusals

pytest.importorskip("transformers")
QUICK, ALL = 12, 160
WRONG = ["null", "1", "true", "[]", "{}", "[1]", "[{}]", '{"role": "user"}',
         '[{"role": "user", "content": 1}]', '[{"role": "boss", "content": "a"}]',
         "NaN"]  # fmt: skip


def one_line(rng: random.Random, good: dict[str, str]) -> bytes:
    """A line that lacks a key, has a wrong value, or is no JSON object at all."""
    key = rng.choice(list(good))
    texts = {name: json.dumps(value) for name, value in good.items()}
    kind = rng.randrange(5)
    if kind == 0:
        del texts[key]
    elif kind == 1:
        texts[key] = rng.choice(WRONG if key == "prompt" else [w for w in WRONG if '"' not in w])
    line = "{" + ", ".join(f'"{name}": {value}' for name, value in texts.items()) + "}"
    if kind == 2:
        return line[: rng.randrange(1, len(line))].encode()
    if kind == 3:
        return rng.choice([b"x", b"\xff", b"[1]", b"null"]) + noise(rng)
    if kind == 4:
        return (line + rng.choice(["}", line, word(rng), "\0"])).encode()
    return line.encode()


def maker(words: list[str], good: dict[str, str]) -> Maker:
    """Files of a few good lines and a bad one."""

    def make(rng: random.Random, here: Path) -> list[str]:
        rows = [
            json.dumps({**good, "prompt": f"{good['prompt']} {i}"}).encode()
            for i in range(rng.randrange(3))
        ]
        rows.insert(rng.randrange(len(rows) + 1), one_line(rng, good))
        (here / "lines.jsonl").write_bytes(b"\n".join(rows))
        (here / "good.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
        return words

    return make


JUDGE = ["--preference", "tests.trainers:longer_wins"]
MODEL = ["--model", "tiny:a,b,<end>"]
PROMPT = {"prompt": "a"}
ANSWER = PROMPT | {"answer": "b"}
CHOICE = PROMPT | {"chosen": "b", "rejected": "c"}
COMPLETION = PROMPT | {"completion": "b"}
KINDS = {
    "nash-md": maker(["nash-md", *MODEL, "--prompts", "lines.jsonl", *JUDGE], PROMPT),
    "preference-train": maker(
        ["preference-train", "--pairs", "lines.jsonl", "--out", "m"], CHOICE
    ),
    "warm-start": maker(["warm-start", *MODEL, "--examples", "lines.jsonl"], COMPLETION),
    "held out": maker(
        ["warm-start", *MODEL, "--examples", "good.jsonl", "--held-out", "lines.jsonl"], COMPLETION
    ),
    "tournament, answers": maker(
        ["tournament", "--policies", "good.jsonl", "lines.jsonl", "--prompts", "good.jsonl",
         *JUDGE], ANSWER
    ),
    "tournament, prompts": maker(
        ["tournament", "--policies", "good.jsonl", "tiny:a,b", "--prompts", "lines.jsonl", *JUDGE],
        PROMPT
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_bad_json_lines_are_refused(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals(kind, KINDS[kind], count, tmp_path, monkeypatch) == []
