"""`eqprop-run --together`: the same logs as separate runs, stopping, resuming, and refusals."""

import importlib.util
import json
import os
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioplaus.training.joint import Joint
from bioplaus.training.updates import Ask
from bridge.runlog import Run, read_run
from tests.command_line import call, refused
from tests.resuming import TIMES, command, end_at

SMALL = [
    "--quiet",
    "--set=data.train_size=60",
    "--set=data.test_size=20",
    "--set=network.hidden=[12]",
    "--set=batch_size=20",
    "--epochs=3",
    "--device=cpu",
]
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}
"""Relative, of every number of a log."""


def same_logs(mine: Run, other: Run, tolerance: float) -> None:
    assert mine.tables.keys() == other.tables.keys()
    for name, columns in other.tables.items():
        for column, values in columns.items():
            if column in TIMES:
                continue
            found = mine.tables[name][column]
            if values.dtype.kind != "f":
                assert np.array_equal(found, values), (name, column)
                continue
            np.testing.assert_allclose(found, values, tolerance, tolerance, err_msg=column)
    step, weights = mine.weights()
    assert step == other.weights()[0]
    for name, values in other.weights()[1].items():
        np.testing.assert_allclose(weights[name], values, 10 * tolerance, 10 * tolerance)


def kinds(run: Run) -> list[str]:
    return [event["kind"] for event in run.events if event["kind"] != "program"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_log_is_that_of_its_own_run(tmp_path: Path, dtype: str) -> None:
    own = [*SMALL, f"--set=dtype={dtype}"]
    if dtype == "float64":  # an oracle's number of steps may turn on a last digit
        own.append("--check-gradients-every=4")
    swept = ["--sweep=optimizer.learning_rate=0.3,0.1", "--sweep=network.angle=30,90"]
    result = call("eqprop-run", *own, *swept, "--seeds=1,5", "--together", "--json", "--out",
                  tmp_path / "many")  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [run["point"]["seed"] for run in said["runs"]] == [1, 5] * 4
    for run in said["runs"][1::3]:
        sets = [f"--set={key}={value}" for key, value in run["point"].items()]
        alone = call("eqprop-run", *own, *sets, "--out", tmp_path / "one.h5", "--overwrite")
        assert alone.exit_code == 0, alone.output
        log, other = read_run(Path(run["log"])), read_run(tmp_path / "one.h5")
        same_logs(log, other, TOLERANCE[dtype])
        assert (log.status, log.sealed, log.config) == (other.status, other.sealed, other.config)
        assert kinds(log) == kinds(other)
        assert run["summary"]["test_error"] == pytest.approx(other.events[-1]["of"]["test_error"])
        told = [event["text"] for event in log.events if event["kind"] == "program"]
        assert told == ["updates are those of 8 runs together"]
    # like any other, a log can be extended alone
    longer = call("eqprop-run", "--resume", "--reschedule", "--epochs=4", "--quiet", "--out",
                  said["runs"][0]["log"])  # fmt: skip
    assert longer.exit_code == 0, longer.output


@pytest.mark.slow
def test_a_run_that_diverges_leaves_the_others(tmp_path: Path) -> None:
    own = [*SMALL, "--set=dtype=float64", "--set=batch_size=2", "--seed=2"]
    rates = "--sweep=optimizer.learning_rate=0.05,1e30,0.1"
    result = call("eqprop-run", *own, rates, "--together", "--out", tmp_path / "many")
    assert result.exit_code == 1
    assert "1 of 3 runs failed" in result.stderr
    for rate in ("1e30", "0.1"):
        one = tmp_path / f"{rate}.h5"
        alone = call("eqprop-run", *own, f"--set=optimizer.learning_rate={rate}", "--out", one)
        assert alone.exit_code == (1 if rate == "1e30" else 0)
        log, other = (
            read_run(tmp_path / "many" / f"optimizer.learning_rate={rate}.h5"),
            read_run(one),
        )
        assert (log.status, log.sealed) == (other.status, other.sealed)
        same_logs(log, other, 1e-9)
        assert kinds(log) == kinds(other)
        if rate == "1e30":
            assert "the network diverged" in alone.stderr
            assert alone.stderr.strip().removeprefix("error: ") in result.stderr


def test_each_log_has_the_line_that_trains_it_alone(tmp_path: Path) -> None:
    own = [*SMALL, "--hidden=6,4", "--device=cpu", "--set=dtype=float64"]
    own = [arg for arg in own if "network.hidden" not in arg and arg != "--epochs=3"]
    (tmp_path / "mine.toml").write_text("epochs = 1\n")
    swept = ["--sweep=network.angle=30,90", "--seeds=1,5", "--together", "--json"]
    result = call("eqprop-run", tmp_path / "mine.toml", *own, *swept, "--out", tmp_path / "many")
    assert result.exit_code == 0, result.output
    log = tmp_path / "many" / "network.angle=30,seed=5.h5"
    together = read_run(log)
    program, command, *words = shlex.split(together.meta["command_line"])
    assert (program, command) == ("bioplaus", "eqprop-run")
    assert f"--out={log}" in words
    assert not [word for word in words if word.startswith(("--seeds", "--sweep", "--together"))]
    alone = call(command, *words, "--out", tmp_path / "one.h5")
    assert alone.exit_code == 0, alone.output
    other = read_run(tmp_path / "one.h5")
    assert other.config == together.config
    same_logs(together, other, 1e-11)


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_the_step_under_way(tmp_path: Path) -> None:
    own = [*SMALL, "--set=dtype=float64", "--seeds=0..2", "--set=batch_size=2", "--epochs=1"]
    whole = ["eqprop-run", *own, "--together", "--out", tmp_path / "whole"]
    cut = ["eqprop-run", *own, "--together", "--out", tmp_path / "cut"]

    def stuck() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        original, steps = Joint.answer, iter(range(5))

        def answer(self: Joint, asks: Sequence[Ask]) -> list[Any]:
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            return original(self, asks)

        Joint.answer = answer  # type: ignore[method-assign]

    assert command(whole) == 0
    began = time.monotonic()
    assert command(cut, stuck) == 75
    assert time.monotonic() - began < 55
    logs = sorted((tmp_path / "cut").glob("*.h5"))
    assert [read_run(log).status for log in logs] == ["stopped"] * 3
    index = json.loads((tmp_path / "cut" / "index.json").read_text())
    assert [entry["status"] for entry in index["runs"]] == ["stopped"] * 3
    assert command([*cut, "--resume"]) == 0
    for log in logs:
        assert [e["step"] for e in read_run(log).events if e["kind"] == "resumed"] == [6]
        same_logs(read_run(log), read_run(tmp_path / "whole" / log.name), 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_goes_on(tmp_path: Path, number: int) -> None:
    own = [*SMALL, "--set=dtype=float64", "--seeds=0..2", "--checkpoint-every=4"]
    own += ["--epochs=4", "--set=batch_size=2"]  # thirty steps an epoch
    whole = ["eqprop-run", *own, "--together", "--out", tmp_path / "whole"]
    cut = ["eqprop-run", *own, "--together", "--out", tmp_path / "cut", "--resume"]
    assert command(whole) == 0
    # the kill comes when one run has saved step 8 and the others have not
    code = command(cut, end_at(8, number, saved=True))
    assert code == (75 if number == signal.SIGINT else -signal.SIGKILL)
    logs = sorted((tmp_path / "cut").glob("*.h5"))
    assert len(logs) == 3
    if number == signal.SIGINT:
        assert {read_run(log).status for log in logs} == {"stopped"}
        index = json.loads((tmp_path / "cut" / "index.json").read_text())
        assert [entry["status"] for entry in index["runs"]] == ["stopped"] * 3
    assert command(cut) == 0
    for log in logs:
        assert read_run(log).status == "finished"
        # runs that are ahead wait, others go on alone: roundings differ, and 120 steps of two
        # images each amplify them
        same_logs(read_run(log), read_run(tmp_path / "whole" / log.name), 1e-6)
    before = [log.read_bytes() for log in logs]
    assert command(cut) == 0  # nothing is left to do
    assert [log.read_bytes() for log in logs] == before


@pytest.mark.slow
def test_runs_of_other_settings_are_trained_one_group_after_another(tmp_path: Path) -> None:
    swept = ["--sweep=estimator.beta=0.5,0.3", "--sweep=network.hidden=[12],[8]", "--seeds=0..1"]
    own = [arg for arg in (*SMALL, "--epochs=1") if "hidden" not in arg]
    result = call("eqprop-run", *own, *swept, "--together", "--out", tmp_path / "many")
    assert result.exit_code == 0, result.output
    for log in (tmp_path / "many").glob("*.h5"):
        told = [event["text"] for event in read_run(log).events if event["kind"] == "program"]
        assert told == ["updates are those of 2 runs together"]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--set", "phases.engine=brian2"], "phases.engine=brian2 simulates one network"),
        (["--estimator", "dyadic"], "estimator.name=dyadic is none of vector-field and asym-ep"),
        (["--nudging", "random-sign"], "nudging=random-sign draws its signs on the host"),
        (["--set", "micro_shards=2"], "micro_shards=2"),
        (["--set", "average=0.9"], "average"),
        (["--set", "contraction.limit=0.9"], "contraction"),
        (["--jobs", "2"], "--jobs is of runs in processes of their own"),
        (["--launcher", "slurm", "--slurm", "time=5"], "--launcher is of runs in processes"),
        (["--plot", "x.png"], "--plot draws one run"),
    ],
)
def test_refused_before_anything_is_written(tmp_path: Path, args: list[str], word: str) -> None:
    if word.startswith("phases.engine") and importlib.util.find_spec("brian2") is None:
        pytest.skip("could not import 'brian2': No module named 'brian2'")
    out = ["--seeds", "0..1", "--together", "--out", tmp_path / "new"]
    assert refused(call("eqprop-run", *SMALL, *out, *args), word)
    assert not list(tmp_path.iterdir())


def test_networks_that_cannot_be_stacked_are_refused(tmp_path: Path) -> None:
    few = [arg for arg in SMALL if "hidden" not in arg]
    out = ["--seeds", "0..1", "--together", "--out", tmp_path / "new"]
    result = call(
        "eqprop-run", *few, *out, "--field", "convolutional", "--set", "network.channels=[2]"
    )
    assert refused(result, "is Conv, not Dense or Tied", "network.field=leaky", "leave --together")
    assert refused(call("eqprop-run", *SMALL, "--together"), "give --seeds or --sweep too")
    assert not list(tmp_path.iterdir())
