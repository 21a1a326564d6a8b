"""`nash-md --model`: its output files, and its one-line refusals."""

import json

import pytest

from bridge.runlog import read_run
from tests.command_line import call, refused

MODEL = "tiny:rock,paper,scissors"
JUDGES = """
import torch

def good(prompts, a, b):
    return torch.sigmoid(torch.tensor([float(len(x) - len(y)) for x, y in zip(a, b)]))

def one_sided(prompts, a, b):
    return [0.9] * len(a)

def unknown(prompts, a, b):
    return [float("nan")] * len(a)
"""


@pytest.fixture(autouse=True)
def judges(tmp_path, monkeypatch):
    (tmp_path / "judges_here.py").write_text(JUDGES)
    (tmp_path / "p.jsonl").write_text('{"prompt": "rock"}\n{"prompt": "paper rock"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def nash(*more, model=MODEL, prompts="p.jsonl", preference="judges_here:good", length=1):
    given = ("--model", model, "--prompts", prompts, "--preference", preference)
    given += ("--out", "run.h5", "--set", f"generation.max_new_tokens={length}", "--iterations", 2)
    return call("nash-md", *given, *more)


@pytest.mark.parametrize(
    ("algorithm", "answers"),
    [("nash-md", 3), ("nash-ema", 3), ("extragradient", 6), ("online-ipo", 2)],
)
def test_a_run_writes_a_log_and_a_policy(tmp_path, algorithm, answers):
    result = nash("--algorithm", algorithm, "--set", "measure_exact=true", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["step"] == 2
    assert said["num_tokens"] == 2 * 8 * answers  # of one token each
    assert [each["prompt"] for each in said["exact"]] == [0, 1]
    assert said["decoding_tokens_per_second"] > said["tokens_per_second"] > 0
    shares = [said[f"{part}_share"] for part in ("decoding", "judging", "scoring", "update")]
    assert 0 < sum(shares) <= 1
    assert min(shares) > 0
    assert read_run("run.h5").status == "finished"
    assert (tmp_path / "run" / "model.safetensors").exists()
    again = nash("--save", "other", "--overwrite", model="run", length=1)
    assert refused(again, "no end-of-text token", "end_token")


def test_caches_of_fixed_length_give_the_same_run_and_where_they_cannot_the_log_says_so():
    plain = nash("--json", "--quiet", length=4)
    first = read_run("run.h5").table("metrics")
    static = nash("--json", "--quiet", "--overwrite", "--set", "generation.cache=static", length=4)
    for result in (plain, static):
        assert result.exit_code == 0, result.output
    second = read_run("run.h5").table("metrics")
    assert first.keys() == second.keys()
    for name, column in first.items():
        assert column == pytest.approx(second[name], rel=1e-4, abs=1e-6, nan_ok=True), name
    told = nash("--overwrite", "--set", "generation.cache=static", length=4).stdout
    assert "time: decoding " in told
    assert "tokens/s of decoding" in told
    wrong = nash("--overwrite", "--set", "generation.cache=fixed")
    assert refused(wrong, "generation.cache", "'auto', 'static' or 'dynamic'")


def test_autocast_of_float64_is_refused():
    wrong = nash("--set", "precision=float64", "--set", "mixed_precision=true")
    assert refused(wrong, "mixed_precision", "precision=float64", "float32 or bfloat16")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ("p.jsonl:1", "no JSON")),
        ('{"text": "x"}', ("p.jsonl:1", "prompt: missing")),
        ('{"prompt": " "}', ("p.jsonl:1", "prompt: empty")),
        ("", ("p.jsonl", "empty")),
    ],
)
def test_wrong_prompts_are_refused(tmp_path, line, words):
    (tmp_path / "p.jsonl").write_text(line)
    assert refused(nash(), *words)
    assert not (tmp_path / "run.h5").exists()


@pytest.mark.parametrize(
    ("preference", "words"),
    [
        ("judges_here:one_sided", ("not antisymmetric", "0.9")),
        ("judges_here:unknown", ("gave NaN",)),
        ("judges_here:god", ("did you mean 'good'",)),
        ("nowhere_at_all:f", ("no module 'nowhere_at_all'", "file.py:name")),
        ("nowhere", ("neither a folder",)),
    ],
)
def test_wrong_preferences_are_refused(preference, words):
    assert refused(nash("--quiet", preference=preference), *words)


def test_what_does_not_fit_is_refused(monkeypatch):
    assert refused(nash(length=600), "p.jsonl: prompt 1", "context of 512")
    assert refused(nash(model="tiny:rock"), "two or more different words")
    assert refused(nash("--algorithm", "fictitious-play"), "fictitious-play", "nash-md")
    assert refused(nash("--algorithm", "rlhf"), "no scalar reward", "reward=module:function")
    assert refused(nash("--set", "samples=1"), "samples=1", "leave-one-out")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert refused(nash(), "transformers is not installed", "bioplaus[lm]")
