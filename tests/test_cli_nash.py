"""`nash-md` on tables as a user meets it."""

import json
from functools import partial

import numpy as np
import pytest

from bridge.runlog import read_run
from tests import command_line
from tests.command_line import refused

call = partial(command_line.call, "nash-md")
HEADER = "context,item_a,item_b,wins_a,wins_b,ties\n"


def test_default_run_solves_the_human_votes(tmp_path):
    out = tmp_path / "n.h5"
    result = call("--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["log"] == str(out)
    contexts = {c["context"]: c for c in said["contexts"]}
    assert contexts.keys() == {"Beethoven", "Rachmaninov", "SteelyDan", "Sting"}
    for c in contexts.values():
        promised = {"context", "actions", "policy", "exploitability", "certificate"}
        assert promised | {"kl_to_equilibrium", "iterations"} <= c.keys()
        assert sum(c["policy"]) == pytest.approx(1)
        assert c["exploitability"] < 1e-7
        assert 0 < c["kl_to_equilibrium"] <= c["certificate"]
        assert c["bradley_terry_loss"] > 0
    # only Rachmaninov's votes cycle at the top: Bradley-Terry's winner there is beaten
    assert contexts["Rachmaninov"]["bradley_terry_worst"] > 1e-3
    assert contexts["Beethoven"]["bradley_terry_worst"] == 0


def test_the_log_holds_the_trajectory(tmp_path):
    out = tmp_path / "n.h5"
    call("--iterations", "200", "--quiet", "--out", out)
    run = read_run(out)
    rows = run.table("metrics")
    assert list(np.unique(rows["step"])) == [1, *range(10, 201, 10)]
    assert set(rows["context"]) == {0, 1, 2, 3}
    assert json.loads(run.meta["dataset"])["contexts"][1] == "Rachmaninov"
    assert (rows["slack"] >= 0).all()
    last = rows["kl_to_equilibrium"][rows["step"] == 200]
    assert (last < rows["kl_to_equilibrium"][rows["step"] == 10]).all()


def test_a_users_votes_and_probabilities(tmp_path):
    votes = tmp_path / "v.csv"
    votes.write_text(HEADER + "x,a,b,9,1,0\nx,b,c,9,1,0\nx,c,a,9,1,0\n")
    said = json.loads(call("--game", votes, "--json", "--out", tmp_path / "a.h5").stdout)
    assert said["contexts"][0]["policy"] == pytest.approx([1 / 3] * 3, abs=1e-3)
    table = tmp_path / "p.csv"
    table.write_text("good,bad\n0.5,0.9\n0.1,0.5\n")
    said = json.loads(call("--game", table, "--json", "--out", tmp_path / "b.h5").stdout)
    assert said["contexts"][0]["actions"] == ["good", "bad"]
    assert said["contexts"][0]["policy"][0] > 0.9


def test_table_names_policies_and_missing_pairs(tmp_path):
    votes = tmp_path / "v.csv"
    votes.write_text(HEADER + "song,a,b,9,1,0\nsong,b,c,9,1,0\n")
    result = call("--game", votes, "--out", tmp_path / "a.h5")
    assert "song: a " in result.stdout
    assert "never compared in song: a and c; taken as even" in result.stdout
    assert "exploitability" in result.stdout


def test_the_certified_equilibrium_stands_beside_a_policy_that_has_not_converged(tmp_path):
    args = ["--game", "biased-rock-paper-scissors", "--tau", "0.001"]
    result = call(*args, "--json", "--out", tmp_path / "a.h5")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    (found,) = said["contexts"]
    assert said["converged"] is found["converged"] is False
    assert found["certificate"] > 1e-3
    assert found["equilibrium"] == pytest.approx([2 / 7, 1 / 7, 4 / 7], abs=3e-3)
    assert found["equilibrium_certificate"] < 1e-20
    assert found["kl_to_equilibrium"] > 0.1
    assert found["kl_from_equilibrium"] > 1
    shown = call(*args, "--out", tmp_path / "b.h5").stdout
    assert "equilibrium: paper 0.570, rock 0.288, scissors 0.142 (certificate" in shown
    assert "NOT CONVERGED: the certificate of nash-md's policy" in shown
    assert "--algorithm exact" in shown
    table = shown[shown.index("context\t") :]
    assert "NOT CONVERGED" in table.splitlines()[1]
    # going on with a finished log does not hide it
    again = call(*args, "--resume", "--out", tmp_path / "b.h5").stdout
    assert "finished before, NOT CONVERGED" in again
    args += ["--algorithm", "exact", "--iterations", "2", "--out", tmp_path / "c.h5"]
    said = json.loads(call(*args, "--json").stdout)
    assert said["converged"]
    assert said["contexts"][0]["policy"] == said["contexts"][0]["equilibrium"]


def test_float32_is_measured_in_float64(tmp_path):
    args = ["--set", "dtype=float32", "--iterations", "100", "--algorithm", "mirror-prox"]
    said = json.loads(call(*args, "--json", "--out", tmp_path / "a.h5").stdout)
    for found in said["contexts"]:
        assert found["converged"]
        assert 1e-16 < found["certificate"] < 1e-9  # what float32 can hold, and no less
        assert found["equilibrium_certificate"] < 1e-25


@pytest.mark.slow
def test_an_index_says_which_runs_have_not_converged(tmp_path):
    args = ["--game", "biased-rock-paper-scissors", "--iterations", "20"]
    args += ["--sweep", "tau=1.0,0.001", "--jobs", "1", "--out", tmp_path / "s"]
    result = call(*args)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert ["NOT CONVERGED" in line for line in lines[:2]] == ["0.001" in x for x in lines[:2]]
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    ended = {run["point"]["tau"]: run["summary"]["converged"] for run in index["runs"]}
    assert ended == {1.0: True, 0.001: False}


def test_a_config_of_a_table(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('game = "elo"\ntau = 0.5\niterations = 30\nalgorithm = "self-play"\n')
    said = json.loads(call(config, "--tau", "1.0", "--json", "--out", tmp_path / "a.h5").stdout)
    assert [c["context"] for c in said["contexts"]] == ["elo"]
    run = read_run(tmp_path / "a.h5")
    kept = {name: run.config[name] for name in ("algorithm", "iterations", "tau")}
    assert kept == {"algorithm": "self-play", "iterations": 30, "tau": 1.0}
    config.write_text("tau = 0.5\niterations = 30\n")
    assert call(config, "--quiet", "--out", tmp_path / "b.h5").exit_code == 0


def test_a_config_of_a_model_is_still_one(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('model = "tiny:a,b,<end>"\ntau = 0.5\n')
    assert refused(call(config, "--game", "elo"), "--game is for tables")
    config.write_text('game = "elo"\ntaau = 0.5\n')
    assert refused(call(config), "taau", "tau")


@pytest.mark.parametrize("game", ["sound-quality", "biased-rock-paper-scissors"])
def test_plot(game, tmp_path):
    picture = tmp_path / "p.png"
    result = call("--game", game, "--iterations", 50, "--plot", picture, "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_algorithm_and_schedule_runs(tmp_path):
    from nlhf.algorithms import ALGORITHMS

    for name in ALGORITHMS:
        args = ["--algorithm", name, "--iterations", 20, "--quiet", "--out", tmp_path / name]
        assert call("--game", "elo", *args).exit_code == 0
    args = ["--set", "tau_start=1.0", "--set", "eta=1.0", "--set", "eta_end=0.1"]
    args += ["--set", "mixture=0.5", "--set", "mixture_end=0.0", "--set", "votes=10"]
    result = call("--game", "elo", *args, "--quiet", "--out", tmp_path / "scheduled")
    assert result.exit_code == 0, result.output


def test_figures_of_an_annealed_tau_are_those_of_the_final_game(tmp_path):
    out = tmp_path / "n.h5"
    call("--set", "tau_start=1.0", "--iterations", "200", "--quiet", "--out", out)
    rows = read_run(out).table("metrics")
    assert (rows["kl_to_equilibrium"] <= rows["certificate"] * (1 + 1e-9)).all()
    assert np.isnan(rows["slack"]).all()


def test_an_action_that_a_context_lacks_is_not_played_there(tmp_path):
    votes = tmp_path / "v.csv"
    votes.write_text(HEADER + "x,a,b,9,1,0\nx,b,c,9,1,0\ny,a,b,4,6,0\n")
    said = json.loads(call("--game", votes, "--json", "--out", tmp_path / "a.h5").stdout)
    assert said["contexts"][1]["policy"][2] == 0
    assert said["contexts"][1]["exploitability"] < 1e-6


@pytest.mark.slow
def test_large_tau_suits_every_algorithm(tmp_path):
    from nlhf.algorithms import ALGORITHMS

    for name in ALGORITHMS:
        args = ["--algorithm", name, "--tau", "5", "--iterations", 20, "--quiet"]
        assert call("--game", "elo", *args, "--out", tmp_path / name).exit_code == 0


def test_same_seed_same_votes(tmp_path):
    rows = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        args = ["--set", "votes=3", "--seed", seed, "--iterations", 30, "--quiet"]
        call("--game", "elo", *args, "--out", tmp_path / name)
        rows.append(read_run(tmp_path / name).table("metrics")["exploitability"])
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--game", "chess"], ["chess", "sound-quality", "rock-paper-scissors"]),
        (["--algorithm", "ppo"], ["ppo", "nash-md, nash-ema"]),
        (["--tau", "0"], ["tau", "0"]),
        (["--tau", "-1"], ["tau", "-1"]),
        (["--iterations", "0"], ["iterations", "0"]),
        (["--set", "mixture=1.5"], ["mixture", "1.5"]),
        (["--set", "reference=[0.5, 0.5]"], ["reference", "2 probabilities for 8"]),
        (["--set", "smoothing=-1"], ["smoothing", "-1"]),
        (["--game", "elo", "--set", "smoothing=1"], ["smoothing=1", "no effect", "votes"]),
        (["--game", "roshambo", "--set", "smoothing=1"], ["smoothing=1", "square table of win"]),
        (["--game", "elo", "--set", "reference=[0.5,0.5,0.5,0.5]"], ["sums to 2"]),
        (["--algorithm", "magnetic", "--set", "mixture=0.5"], ["mixture", "magnetic"]),
        (["--set", "eta=-1"], ["eta", "-1"]),
        (["--algoritm", "x"], ["--algoritm", "--algorithm"]),
        (["--set", "taau=1"], ["taau", "tau"]),
        (["--plot", "p.bmp", "--iterations", "3"], [".png"]),
        (["--algorithm", "exact", "--set", "votes=3"], ["votes=3", "exact"]),
        (["--algorithm", "exact", "--set", "eta=3"], ["eta=3", "exact"]),
        (["--preference", "x"], ["--preference", "--model"]),
    ],
)
def test_bad_input(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(call(*args, "--quiet"), *words)
    assert list(tmp_path.rglob("*.h5")) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("a,b\n0.5,1.5\n-0.5,0.5\n", "-0.5"),
        ("a,b\n0.5,0.7\n0.7,0.5\n", "sum to 1"),
        ("a,b\n0.5,1.2\nnan,0.5\n", "1.2"),
        ("a,b\n0.5,0.5\n", "2 actions"),
        ("a\n0.5\n", "one column"),
        (HEADER + "x,a,b,-3,1,0\n", "-3"),
        (HEADER + "x,a,a,3,1,0\n", "itself"),
        ("context,item_a,item_b\nx,a,b\n", "it needs 'winner', or 'wins_a' and 'wins_b'"),
    ],
)
def test_bad_files(text, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.csv").write_text(text)
    assert refused(call("--game", "g.csv", "--quiet"), word)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", [[], ["--model", "tiny:a,b,<end>", "--prompts", "pairs.jsonl"]])
def test_comparisons_are_no_judge_yet(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = {"prompt": "a", "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line) + "\n")
    result = call(*model, "--preference", "pairs.jsonl", "--quiet")
    assert refused(result, "preference-train --pairs pairs.jsonl --out DIR")


@pytest.mark.parametrize(
    ("name", "named"),
    [("zero_votes.csv", False), ("unconnected.csv", False), ("counts.csv", True)],
)
def test_no_bradley_terry_winner_where_nothing_joins_the_actions(name, named, tmp_path):
    args = ["--game", f"tests/cases/{name}", "--iterations", 50]
    said = json.loads(call(*args, "--json", "--out", tmp_path / "a.h5").stdout)["contexts"][0]
    assert (said["bradley_terry_winner"] is not None) == named
    shown = call(*args, "--out", tmp_path / "b.h5").stdout
    assert ("never compared in x: A and" in shown) == (not named)


@pytest.mark.parametrize(
    ("rows", "winner", "unbeaten"),
    [
        ("A,B,10,0,0 C,B,1,0,0", None, "AC"),
        ("A,B,10,0,0 C,B,1,0,0 A,C,0,0,1", "A = C", "AC"),
        ("A,B,3,2,0 C,D,9,1,0 A,E,5,0,0 C,E,1,0,0", None, "AC"),
        ("A,B,3,2,0 C,D,9,1,0 A,C,1,0,0 A,D,1,0,0", "A", "A"),
        ("A,B,10,0,0 C,B,1,0,0 C,A,1,0,0", "C", "C"),
    ],
)
def test_no_winner_is_named_that_the_votes_do_not_determine(rows, winner, unbeaten, tmp_path):
    votes = tmp_path / "votes.csv"
    lines = ["context,item_a,item_b,wins_a,wins_b,ties", *(f"x,{row}" for row in rows.split())]
    votes.write_text("\n".join(lines))
    args = ["--game", votes, "--algorithm", "exact", "--out", tmp_path / "a.h5", "--json"]
    (said,) = json.loads(call(*args).stdout)["contexts"]
    tied = " = ".join(said["bradley_terry_tied"]) or None
    assert (said["bradley_terry_winner"] or tied) == winner
    assert (said["bradley_terry_worst"] is None) == (winner is None)
    plain = dict(zip(said["actions"], said["plain_equilibrium"], strict=True))
    for name, share in plain.items():
        assert share == pytest.approx((name in unbeaten) / len(unbeaten), abs=1e-12)


def test_the_votes_can_be_resampled_beside_the_equilibrium(tmp_path):
    args = ["--game", "tests/cases/counts.csv", "--iterations", 20, "--bootstrap", 50]
    said = json.loads(call(*args, "--json", "--quiet", "--out", tmp_path / "a.h5").stdout)
    assert said["ranking"][0]["verdict"] == "undecided"
    assert "all: undecided" in call(*args, "--out", tmp_path / "b.h5").stdout
    assert refused(call("--game", "elo", "--bootstrap", 9, "--out", tmp_path / "c.h5"), "no votes")


def test_help_has_an_example():
    assert "bioplaus nash-md" in call("--help").stdout
