"""The command line accepts all commands of the experiments in the docs."""

import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bridge.progress import progress
from cli import main
from experiments.jobs import Refusal, await_all, keep_settings, run_all, workers

SMALL = (
    *("--epochs", "1", "--check-gradients-every", "0", "--quiet"),
    *("--set", "data.train_size=20", "--set", "data.test_size=10"),
)


class Told(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["angle_over_training", "initial_angle", "learning_table", "stability"]
)
def test_every_command_line_runs(name, tmp_path, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    jobs = {}

    def note(given, *_, **__):
        jobs.update(given)
        raise Told

    monkeypatch.setattr(module, "run_all", note)
    with pytest.raises(Told):
        module.main.main(["--out", str(tmp_path)], standalone_mode=False)
    seeds = {job: args[args.index("--seed") + 1] for job, args in jobs.items() if "--seed" in args}
    tried = [args for job, args in jobs.items() if seeds.get(job, "0") == "0"]
    assert len(tried) >= 2
    for k, args in enumerate(tried):
        out = str(tmp_path / f"{k}.h5")
        done = CliRunner().invoke(main, ["eqprop-run", *args, *SMALL, "--out", out])
        assert done.exit_code == 0, (args, done.output)


TRAINING = (
    *("angle_over_training", "cifar10.__main__", "cyclic_docstrings", "docstrings", "fashion"),
    *("initial_angle", "learning_table", "preference_encoders", "stability", "votes"),
    "votes_elsewhere",
)


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_takes_a_device_and_refuses_a_wrong_one_in_one_line(name, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    more = ("--pairs", "none.jsonl") if name == "preference_encoders" else ()
    for device, words in (
        ("cuda", "error: device='cuda' has no usable GPU here; use --device cpu or auto"),
        ("gpu", "error: device='gpu' is unknown; use auto, cpu or cuda"),
    ):
        done = CliRunner().invoke(module.main, ["--device", device, *more])
        assert done.exit_code == 2, done.output
        assert done.output.splitlines() == [words]


def test_a_device_is_passed_on_to_the_runs(tmp_path, monkeypatch):
    asked = []

    class Done:
        returncode, stderr = 2, "enough"

    monkeypatch.setattr(
        "experiments.jobs.subprocess.run", lambda words, **_: asked.append(words) or Done
    )
    for device in ("cpu", None):
        with pytest.raises(RuntimeError, match="enough"):
            run_all({"a": ["--epochs", "1"]}, tmp_path, device=device)
    assert asked[0][asked[0].index("--device") + 1] == "cpu"
    assert "--device" not in asked[1]


def test_the_log_of_another_run_is_refused_and_kept(tmp_path):
    game = ["--game", "rock-paper-scissors", "--iterations", "3"]
    first = run_all({"a": game}, tmp_path, command="nash-md")["a"]
    before = (tmp_path / "a.h5").read_bytes()
    assert run_all({"a": game}, tmp_path, command="nash-md")["a"].meta == first.meta
    with pytest.raises(Refusal, match=r"a\.h5 is the log of another run.*3.*4.*choose another"):
        run_all({"a": [*game[:-1], "4"]}, tmp_path, command="nash-md")
    assert (tmp_path / "a.h5").read_bytes() == before


def test_results_of_other_settings_are_refused(tmp_path):
    keep_settings(tmp_path, steps=80, model="smollm2")
    keep_settings(tmp_path, steps=80, model="smollm2")
    with pytest.raises(Refusal, match=r"has results of steps=80, not 60; choose another --out"):
        keep_settings(tmp_path, steps=60, model="smollm2")
    keep_settings(tmp_path, steps=80, model="smollm2")


def test_a_refusal_is_one_line():
    @click.command()
    def refuse():
        raise Refusal("steps=0")

    done = CliRunner().invoke(refuse)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "error: steps=0\n")


def test_the_first_error_cancels_what_has_not_begun():
    begun, cancelled = [], threading.Event()

    def fail():
        raise RuntimeError("broken")

    with progress(3, "runs", quiet=True) as bar, workers(1) as pool:
        futures = [pool.submit(fail), pool.submit(cancelled.wait, 20), pool.submit(begun.append, 3)]
        futures[2].add_done_callback(lambda future: cancelled.set())
        with pytest.raises(RuntimeError, match="broken"):
            await_all(futures, bar)
    assert futures[2].cancelled()
    assert not begun


BUSY = """
import sys
from experiments.jobs import workers
import worker_at_work
if __name__ == "__main__":
    with workers(2) as pool:
        pool.submit(worker_at_work.write_and_wait, sys.argv[1]).result()
"""
AT_WORK = """
import os, sys, time
def write_and_wait(path):
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)
    time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_an_experiment_that_is_killed(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    (tmp_path / "worker_at_work.py").write_text(AT_WORK)
    written = tmp_path / "pid"
    root = Path(__file__).parent.parent
    experiment = subprocess.Popen(
        [sys.executable, tmp_path / "busy.py", written], cwd=root, env=_with_path(root, tmp_path)
    )
    await_condition(written.is_file)
    worker = Path("/proc", written.read_text(), "status")
    assert _lives(worker)
    experiment.kill()
    experiment.wait()
    await_condition(lambda: not _lives(worker))


def _lives(status):
    """Whether a process computes; one that has ended may wait for its new parent to notice."""
    try:
        return "\nState:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _with_path(*folders):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def await_condition(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
