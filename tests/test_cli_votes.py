"""`eqprop-nash` as a user meets it: its output, its files, and its refusals of bad input."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.runlog import read_run
from tests import command_line
from tests.command_line import refused

call = partial(command_line.call, "eqprop-nash")
KEYS = {
    "exploitability",
    "equilibrium_exploitability",
    "rlhf_exploitability",
    "uniform_exploitability",
    "regularised_gap",
    "kl_to_equilibrium",
    "gradient_cosine",
    "epochs",
    "seed",
    "log",
}
FEW = ["--set", "data.train_size=120", "--set", "data.test_size=40", "--set", "batch_size=20"]
FEW += ["--hidden", "12", "--epochs", "2", "--set", "check_rows=5", "--threads", "1"]


def test_prints_one_json_object_and_leaves_a_log(tmp_path: Path) -> None:
    out = tmp_path / "v.h5"
    result = call(*FEW, "--votes", "2", "--seed", "3", "--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said.keys() == KEYS
    assert (said["epochs"], said["seed"], said["log"]) == (2, 3, str(out))
    assert said["equilibrium_exploitability"] == pytest.approx(0.0137, abs=1e-4)
    assert said["rlhf_exploitability"] == pytest.approx(0.054, abs=1e-3)
    assert said["uniform_exploitability"] == pytest.approx(0.31)
    run = read_run(out)
    assert run.status == "finished"
    assert json.loads(run.meta["headline"])["metric"] == "epochs/exploitability"
    epochs = run.table("epochs")
    assert epochs["exploitability"][-1] == said["exploitability"]
    assert list(epochs["votes"]) == [240.0, 480.0]
    assert {"win_rate", "entropy", "train_exploitability"} <= run.table("metrics").keys()
    told = [event["of"] for event in run.events if event["kind"] == "context"]
    named = [each["context"] for each in told]  # few test images: not every class is among them
    assert named == sorted(set(named))
    assert len(named) >= 8
    assert sum(each["inputs"] for each in told) == 40
    assert all(0 < each["certificate"] < 1e-20 for each in told)
    assert all(each["kl_to_equilibrium"] <= each["kl_bound"] for each in told)


def test_more_epochs_that_would_change_the_weight_of_the_reference_are_refused(
    tmp_path: Path,
) -> None:
    out = tmp_path / "v.h5"
    constant = ["--set", "optimizer.schedule=constant"]
    assert call(*FEW, *constant, "--epochs", "1", "--quiet", "--out", out).exit_code == 0
    again = call("--resume", "--epochs", "2", "--quiet", "--out", out)
    assert refused(again, "tau_start=0.25", "--reschedule")


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    args = [*FEW, "--votes", "2", "--quiet", "--algorithm", "nash-ema"]
    whole, longer = tmp_path / "a.h5", tmp_path / "b.h5"
    constant = ["--set", "optimizer.schedule=constant", "--set", "tau_start=0.05"]
    assert call(*args, *constant, "--out", whole).exit_code == 0
    assert call(*args, *constant, "--epochs", "1", "--out", longer).exit_code == 0
    assert call("--resume", "--epochs", "2", "--quiet", "--out", longer).exit_code == 0
    rows = [read_run(path).table("metrics") for path in (whole, longer)]
    assert all((rows[0][name] == rows[1][name]).all() for name in rows[0])


def test_a_table_names_contexts_and_what_is_known_of_the_game(tmp_path: Path) -> None:
    result = call(*FEW, "--out", tmp_path / "v.h5")
    lines = result.stdout.splitlines()
    assert "exploitability" in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert "certificate" in result.stdout
    assert "of the game: equilibrium 0.0137, rlhf 0.0542, uniform 0.3100" in result.stdout


@pytest.mark.parametrize("algorithm", ["self-play", "best-response", "rlhf", "extragradient"])
def test_every_algorithm_runs(algorithm: str, tmp_path: Path) -> None:
    result = call(*FEW, "--algorithm", algorithm, "--json", "--quiet", "--out", tmp_path / "v.h5")
    assert result.exit_code == 0, result.output
    assert 0 < json.loads(result.stdout)["exploitability"] < 0.4


VOTES = "context,item_a,item_b,winner\n"


def votes(folder: Path, copies: int = 30) -> Path:
    """One vote per row: in wet a > b > c > a, a cycle; in dry a beats all."""
    rows = {"wet": ["a,b,a", "b,c,b", "c,a,c"], "dry": ["a,b,a", "c,a,a", "b,c,tie"]}
    file = folder / "votes.csv"
    lines = [f"{name},{row}" for name, own in rows.items() for row in own for _ in range(copies)]
    file.write_text(VOTES + "\n".join(lines) + "\n")
    return file


SMALL = ["--hidden", "6", "--threads", "1", "--set", "check_rows=2", "--set", "tau=0.3"]


def test_real_votes_are_streamed_each_once(tmp_path: Path) -> None:
    out, judge = tmp_path / "v.h5", f"votes:{votes(tmp_path)}"
    args = ["--set", "batch_size=1", "--set", "optimizer.learning_rate=0.02", "--epochs", "1"]
    result = call("--judge", judge, *SMALL, *args, "--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["kl_to_equilibrium"] < 0.15
    run = read_run(out)
    assert run.table("epochs")["votes"][-1] == 180
    assert len(run.table("metrics")["step"]) == 180
    told = {e["of"]["context"]: e["of"] for e in run.events if e["kind"] == "context"}
    assert told["dry"]["policy"][0] > 0.5
    assert max(told["wet"]["policy"]) < 0.5


@pytest.mark.slow
def test_a_file_of_votes_gives_exact_directions_too(tmp_path: Path) -> None:
    judge = f"votes:{votes(tmp_path)}"
    args = ["--votes", "0", "--epochs", "90", "--set", "optimizer.learning_rate=0.05"]
    args += ["--set", "mixture=0", "--set", "check_rows=1"]
    result = call("--judge", judge, *SMALL, *args, "--json", "--quiet", "--out", tmp_path / "v.h5")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kl_to_equilibrium"] < 0.01


def users(folder: Path, body: str) -> str:
    """A user's judge in a file."""
    file = folder / "mine.py"
    file.write_text(f"import torch\n\n\n{body}")
    return f"{file}:judge"


def test_a_users_judge_and_its_origin(tmp_path: Path) -> None:
    body = "def judge(contexts):\n    P = torch.full((len(contexts), 3, 3), 0.5)\n"
    body += "    P[:, 0, 1], P[:, 1, 0] = 0.9, 0.1\n    return P\n"
    out = tmp_path / "v.h5"
    result = call(*FEW, "--judge", users(tmp_path, body), "--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    origins = [event for event in read_run(out).events if event["kind"] == "code"]
    assert [each["what"] for each in origins] == ["judge"]


def test_a_judge_of_bits_leaves_exploitability_unknown(tmp_path: Path) -> None:
    body = "def judge(context, first, second):\n    return (first < second).float() + "
    body += "(first == second) * torch.bernoulli(torch.full(first.shape, 0.5))\n"
    args = [*FEW, "--judge", users(tmp_path, body), "--out", tmp_path / "v.h5"]
    assert refused(call(*args), "can only be asked", "--votes N")
    result = call(*args, "--votes", "1", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["exploitability"]
    assert found is None or math.isnan(found)


BAD: list[tuple[list[Any], list[str]]] = [
    (["--judge", "cyclick"], ["cyclick", "cyclic, votes:FILE"]),
    (["--judge", "votes:"], ["votes:", "unknown"]),
    (["--judge", "votes:/nowhere.csv"], ["/nowhere.csv"]),
    (["--judge", "votes:sound-quality", "--epochs", "3"], ["epochs=3", "used once"]),
    (["--judge", "votes:roshambo", "--dataset", "mnist"], ["mnist", "no votes in context '0'"]),
    (["--judge", "nowhere:judge"], ["nowhere"]),
    (["--dataset", "contexts"], ["contexts", "cyclic", "--dataset mnist"]),
    (["--algorithm", "nashmd"], ["nashmd", "nash-md"]),
    (["--votes", "-1"], ["votes", "-1"]),
    (["--tau", "0"], ["tau"]),
    (["--set", "mixture=2"], ["mixture", "2"]),
    (["--set", "baseline=leave-one-out", "--votes", "1"], ["leave-one-out", "2 or more"]),
    (["--set", "reference=[0.5,0.5]"], ["reference", "[10]"]),
    (["--set", "micro_shards=2"], ["micro_shards", "2"]),
    (["--set", "smoothing=1", "--judge", "votes:roshambo"], ["smoothing=1", "no votes"]),
    (["--estimator", "backprop"], ["backprop", "asym-ep"]),
    (["--epochz", "3"], ["--epochz", "--epochs"]),
]


@pytest.mark.parametrize(("args", "words"), BAD)
def test_bad_input(
    args: list[Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = [*FEW[:-2]] if "--epochs" not in args else [*FEW[:6]]
    few = few if "--judge" not in args else ["--threads", "1"]
    assert refused(call(*few, *args), *words)
    assert list(tmp_path.rglob("*.h5")) == []


def test_a_judge_that_is_not_antisymmetric(tmp_path: Path) -> None:
    body = "def judge(contexts):\n    return torch.full((len(contexts), 3, 3), 0.6)\n"
    args = [*FEW, "--judge", users(tmp_path, body), "--out", tmp_path / "v.h5"]
    assert refused(call(*args), "not antisymmetric", "symmetrise=true")
    result = call(*args, "--set", "symmetrise=true", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["uniform_exploitability"] == pytest.approx(0.0, abs=1e-6)


def test_help_has_an_example() -> None:
    assert "bioplaus eqprop-nash" in call("--help").stdout
