"""`gradcheck` as a user meets it."""

import json
import math
import os
import shutil
import signal
from functools import partial

import pytest
from click.testing import CliRunner

import cli
from bioplaus_cli.headlines import ESTIMATORS
from bridge.runlog import read_run
from bridge.runlog.ranking import ranked
from tests import command_line
from tests.command_line import refused
from tests.resuming import command, end_at, fingerprint, same_as

call = partial(command_line.call, "gradcheck")
SMALL = ["--sizes", "8,12,5", "--batch", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The log of a short run with a gradient check."""
    out = tmp_path_factory.mktemp("run") / "run.h5"
    args = ["--hidden", "24", "--epochs", "1", "--set", "data.train_size=400", "--quiet"]
    args += ["--set", "data.test_size=100", "--check-gradients-every", "4", "--out", str(out)]
    result = CliRunner().invoke(cli.main, ["eqprop-run", *args])
    assert result.exit_code == 0, result.output
    return out


def test_json_has_the_promised_keys(tmp_path):
    args = ["--estimator", "vector-field", "--estimator", "asym-ep", "--beta", "1e-2"]
    args += ["--beta", "1e-3", "--asymmetry", "1", "--json", "--out", tmp_path / "g.h5"]
    result = call(*SMALL, *args)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert {"ratio", "standard_error"} <= said["asymmetry"].keys()
    promised = {
        "estimator",
        "beta",
        "oracle",
        "parameter",
        "cosine",
        "angle_degrees",
        "relative_error",
        "sign_agreement",
        "bound",
        "residual",
    }
    assert all(promised <= row.keys() for row in said["rows"])
    best = [
        row
        for row in said["rows"]
        if (row["estimator"], row["beta"], row["parameter"]) == ("asym-ep", 1e-3, "all")
    ]
    assert [row["oracle"] for row in best] == ["implicit", "unrolled"]
    assert all(row["relative_error"] < 1e-5 and row["reason"] is None for row in best)
    assert all(row["oracle_difference"] < 1e-8 for row in said["rows"])
    parameters = {row["parameter"] for row in said["rows"]}
    assert {"all", "feedforward", "feedback", "forward.1", "feedback.1"} <= parameters
    stored = read_run(tmp_path / "g.h5").table("gradients")
    assert len(stored["step"]) == len(said["rows"])


COMPARISONS = ["cosine", "angle_degrees", "relative_error", "norm_ratio", "sign_agreement"]
COMPARISONS += ["nonzero_share", "rmse", "bound", "bound_over_error", "oracle_difference"]
LINEAR = ["--sizes", "5,20,20,4", "--angle", "0", "--set", "activation=linear", "--beta", "1e-4"]
LINEAR += ["--set", "steps=20000", "--estimator", "asym-ep"]
LINEAR += ["--oracle", "unrolled", "--oracle", "implicit"]


def strictly(text):
    """Parse JSON; refuse the words NaN and Infinity, which are not JSON."""

    def refuse(word):
        raise AssertionError(f"{word} in JSON")

    return json.loads(text, parse_constant=refuse)


def test_an_oracle_that_has_not_converged_is_compared_with_nothing(tmp_path):
    out = tmp_path / "g.h5"
    result = call(*LINEAR, "--set", "gain=0.488", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    assert "unrolled" in result.stderr
    assert "oracle not converged" in result.stderr
    rows = strictly(result.stdout)["rows"]
    for row in rows:
        if row["oracle"] == "implicit":
            assert row["relative_error"] < 1e-4
            assert row["reason"] is None
        else:
            assert [row[name] for name in COMPARISONS] == [None] * len(COMPARISONS)
            assert row["reason"] == "oracle not converged"
            assert row["oracle_residual"] > 0.01
            assert (row["converged"], row["oracle_converged"]) == (1, 0)
    stored = read_run(out).table("gradients")
    assert [reason or None for reason in stored["reason"]] == [row["reason"] for row in rows]
    for name in COMPARISONS:
        blank = [row[name] is None for row in rows]
        assert [math.isnan(value) for value in stored[name]] == blank
    # the summary of the log, which --resume prints, has the same rows
    again = call("--resume", "--json", "--out", out)
    assert strictly(again.stdout)["rows"] == rows


@pytest.mark.parametrize("as_json", [True, False])
def test_where_nothing_converged_nothing_is_compared(as_json, tmp_path):
    args = [*LINEAR, "--set", "gain=0.66", "--out", tmp_path / "g.h5"]
    result = call(*args, *(["--json"] if as_json else []))
    assert result.exit_code == 1
    error = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "no row could be compared: free phase not converged for 10 of 10 inputs" in error[0]
    assert "smaller weights" in error[0]
    if as_json:
        said = strictly(result.stdout)
        assert all(row[name] is None for row in said["rows"] for name in COMPARISONS)
        assert {row["reason"] for row in said["rows"]} == {"free phase not converged"}
        assert said["asymmetry"]["ratio"] is said["asymmetry"]["spectral_radius"] is None
        assert said["asymmetry"]["free_converged"] == 0
    else:
        assert "free phase not converged" in result.stdout
        assert "nan" not in result.stdout


@pytest.mark.slow
def test_a_run_warns_once_of_checks_that_say_nothing(tmp_path):
    out = tmp_path / "run.h5"
    args = ["--hidden", "8", "--epochs", "1", "--set", "data.train_size=100", "--quiet"]
    args += ["--set", "data.test_size=50", "--check-gradients-every", "1", "--out", str(out)]
    args += [
        "--set",
        "check_rows=2",
        "--set",
        "network.activation=tanh",
        "--set",
        "network.coordinates=membrane",
    ]
    args += ["--set", "network.gain=6", "--set", "network.feedback_gain=1"]
    result = CliRunner().invoke(cli.main, ["eqprop-run", *args])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("check of gradients at step 1: free phase not converged") == 1
    logged = read_run(out).table("gradients")
    assert set(logged["reason"]) == {"free phase not converged"}
    assert all(math.isnan(angle) for angle in logged["angle_degrees"])
    assert all(math.isnan(ratio) for ratio in logged["asymmetry"])
    # and no such check enters the ranking of `compare`
    (rank,) = ranked([read_run(out)], ESTIMATORS)
    assert (rank.counted, rank.left_out) == (0, 2)


def test_one_unit_layers_take_no_angle_between(tmp_path):
    args = ["--sizes", "4,1,1", "--out", tmp_path / "g.h5"]
    assert refused(call(*args, "--angle", "45"), "angle=45", "angle=180", "asymmetry")
    result = call(*args, "--angle", "180", "--json", "--beta", "1e-3")
    assert result.exit_code == 0, result.output
    assert strictly(result.stdout)["asymmetry"]["weight_angle.1"] == 180


def test_a_run_logs_checks_and_its_network_can_be_checked(trained, tmp_path):
    logged = read_run(trained).table("gradients")
    assert set(logged["step"]) == {4, 8}
    args = ["--from-run", trained, "--batch", "5", "--json", "--out", tmp_path / "g.h5"]
    result = call(*args)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {"forward.1", "feedback.1", "all"} <= {row["parameter"] for row in rows}
    again = json.loads(call(*args, "--overwrite").stdout)["rows"]
    assert again == rows


def test_unconverged_phases_are_said_on_stderr(tmp_path):
    result = call(*SMALL, "--set", "steps=4", "--out", tmp_path / "g.h5")
    assert result.exit_code == 1
    assert "warning" in result.stderr
    assert "did not reach the tolerance" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--estimator", "backprop"], ["backprop", "vector-field, asym-ep"]),
        (["--oracle", "magic"], ["magic", "implicit, recurrent-backprop"]),
        (["--beta", "0"], ["beta=0", "no nudge"]),
        (["--sizes", "3,x"], ["3,x"]),
        (["--sizes", "5"], ["sizes=[5]"]),
        (["--asymmetry", "1", "--angle", "30"], ["asymmetry", "angle"]),
        (["--angle", "270"], ["angle", "270"]),
        (["--coordinates", "clipped"], ["hard-sigmoid"]),
        (["--from-run", "nothere.h5"], ["nothere.h5"]),
        (["--dtype", "float16"], ["float16"]),
        (
            ["--estimator", "holomorphic", "--activation", "hard-sigmoid"],
            ["holomorphic", "hard-sigmoid", "corners", "tanh"],
        ),
        (["--estimator", "holomorphic", "--beta", "-0.1"], ["beta=-0.1", "radius"]),
    ],
)
def test_bad_input(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = SMALL if "--from-run" not in args and "--sizes" not in args else []
    assert refused(call(*small, *args), *words)
    assert list(tmp_path.rglob("*.h5")) == []


def test_logs_that_hold_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(*SMALL, "--out", "without.h5", "--quiet")
    assert refused(call("--from-run", "without.h5"), "without.h5", "weights")
    (tmp_path / "foreign.h5").write_bytes(b"not HDF5 at all")
    assert refused(call("--from-run", "foreign.h5"), "foreign.h5")
    assert refused(call("--from-run", "without.h5", "--sizes", "3,2"), "--sizes", "--from-run")


def test_a_damaged_log_is_refused(trained, tmp_path):
    damaged = tmp_path / "damaged.h5"
    raw = bytearray(trained.read_bytes())
    for place in range(len(raw) // 4, len(raw), 997):
        raw[place] ^= 0xFF
    damaged.write_bytes(raw)
    assert refused(call("--from-run", damaged), "damaged.h5")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the command is forked")
def test_a_check_of_a_run_goes_on_with_the_same_run_only(trained, tmp_path):
    run, path = tmp_path / "run.h5", tmp_path / "g.h5"
    shutil.copy(trained, run)
    args = ["gradcheck", "--from-run", run, "--batch", 4, "--beta", 0.1, "--beta", 0.2, "--quiet"]
    assert command([*args, "--out", tmp_path / "whole.h5"]) == 0
    assert command([*args, "--out", path], end_at(2, signal.SIGTERM, True)) == 75
    with run.open("ab") as file:
        file.write(b"x")
    assert refused(call("--resume", "--out", path), "was written with other data")
    shutil.copy(trained, run)
    assert command(["gradcheck", "--resume", "--quiet", "--out", path]) == 0
    assert same_as(path, fingerprint(read_run(tmp_path / "whole.h5")))
