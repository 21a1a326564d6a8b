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

from bridge.errors import InputError
from bridge.progress import progress
from bridge.runlog import read_run
from cli import main
from experiments.jobs import CLI, Refusal, await_all, keep_settings, run_all, workers

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
    monkeypatch.setattr("experiments.jobs.run_jobs", lambda jobs, *_, **__: asked.extend(jobs))
    for device in ("cpu", None):
        with pytest.raises(InputError, match=r"a\.h5"):
            run_all({"a": ["--epochs", "1"]}, tmp_path, device=device)
    first, second = (list(job.command) for job in asked)
    assert first[first.index("--device") + 1] == "cpu"
    assert "--device" not in second


@pytest.mark.slow
def test_a_run_that_cannot_start_ends_the_experiment_in_one_line(tmp_path):
    with pytest.raises(Refusal, match=r"a\.h5: .*unheard-of") as caught:
        run_all({"a": ["--game", "unheard-of"]}, tmp_path, command="nash-md")
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_the_log_of_another_run_is_refused_and_kept(tmp_path):
    game = ["--game", "rock-paper-scissors", "--iterations", "3"]
    first = run_all({"a": game}, tmp_path, command="nash-md")["a"]
    before = (tmp_path / "a.h5").read_bytes()
    assert run_all({"a": game}, tmp_path, command="nash-md")["a"].meta == first.meta
    with pytest.raises(Refusal, match=r"a\.h5 is the log of another run.*3.*4.*choose another"):
        run_all({"a": [*game[:-1], "4"]}, tmp_path, command="nash-md")
    assert (tmp_path / "a.h5").read_bytes() == before


@pytest.mark.slow
def test_a_stopped_run_is_continued(tmp_path, monkeypatch):
    jobs = {"a": ["--game", "rock-paper-scissors", "--iterations", "20000"]}
    log = tmp_path / "a.h5"
    words = [sys.executable, str(CLI), "nash-md", *jobs["a"], "--quiet", "--out", str(log)]
    with subprocess.Popen(words) as process:
        await_condition(log.is_file)
        process.terminate()
    before = read_run(log)
    assert before.status == "stopped"
    after = run_all(jobs, tmp_path, command="nash-md")["a"]
    assert (after.status, after.meta["run_id"]) == ("finished", before.meta["run_id"])


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
LONG = """
import sys
from pathlib import Path
import click
from experiments.jobs import run_all
@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder):
    game = ["--game", "rock-paper-scissors", "--iterations", "100000000"]
    run_all({"a": game, "b": game}, folder, command="nash-md")
main()
"""
AT_WORK = """
import os, sys, time
def write_and_wait(path):
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)
    time.sleep(120)
"""


@pytest.mark.slow
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


@pytest.mark.slow
def test_command_lines_end_with_an_experiment_that_is_terminated(tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    root = Path(__file__).parent.parent
    experiment = subprocess.Popen(
        [sys.executable, tmp_path / "long.py", tmp_path],
        cwd=root,
        env=_with_path(root),
        stderr=subprocess.PIPE,
        text=True,
    )
    await_condition((tmp_path / "a.h5").is_file)
    experiment.terminate()
    stderr = experiment.communicate(timeout=60)[1]
    assert experiment.returncode == 75
    assert stderr.splitlines()[-1] == "stopped, 2 runs are left; repeat the command"
    assert read_run(tmp_path / "a.h5").status == "stopped"
    assert not (tmp_path / "b.h5").exists()


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
