"""If a user's code fails, the run names the place and the call, and can be resumed later."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.runlog.provenance import provenance
from bridge.session import checkpoint_folder
from bridge.signals import STOPPING
from tests.command_line import call
from tests.resuming import command, end_at, fingerprint, same_as

ROOT = Path(__file__).parents[1]
JUDGE = """
import helper
calls = 0

def judge(prompts, a, b):
    global calls
    calls += 1
    helper.answer(calls)
    return [0.5 + 0.4 * ((len(x) > len(y)) - (len(x) < len(y))) for x, y in zip(a, b)]
"""
HELPER = """
import os

def answer(calls):
    if calls == 7 and not os.path.exists("quiet"):
        raise TimeoutError("no answer from the endpoint")
"""
NASH = ["nash-md", "--game", "rock-paper-scissors", "--iterations", 10, "--seed", 3, "--quiet"]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Forks inherit the imports and the facts about the machine."""
    importlib.import_module("nlhf.training")
    provenance()


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run whose judge, in the user's folder, fails at its seventh call."""
    pytest.importorskip("transformers")
    (tmp_path / "failing_judge.py").write_text(JUDGE)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b a"}\n')
    monkeypatch.chdir(tmp_path)
    args = ["nash-md", "--model", "tiny:a,b,c", "--prompts", "prompts.jsonl", "--quiet"]
    args += ["--preference", "failing_judge:judge", "--iterations", "8", "--seed", "3"]
    return [*args, "--set", "generation.max_new_tokens=2", "--set", "batch_size=2"]


def run_in(folder: Path, args: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command in a process."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(ROOT / "cli.py"), *args]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_a_judge_that_fails_costs_no_step(tmp_path: Path, judged: list[str]) -> None:
    done = run_in(tmp_path, [*judged, "--out", "run.h5"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: helper.py:6 in answer: TimeoutError: no answer from the endpoint (call 7 of "
        "preference failing_judge:judge, with 4 pairs); the run stopped in step 6; a checkpoint "
        "of step 5 is written; go on with --resume --out run.h5; the traceback is among the "
        "events of runs show run.h5\n"
    )
    path = tmp_path / "run.h5"
    assert [each.name for each in checkpoints(checkpoint_folder(path))] == ["step-000000000005"]
    traces = [event["text"] for event in read_run(path).events if event["kind"] == "traceback"]
    assert "in judge\n" in traces[0]
    (tmp_path / "quiet").touch()
    done = run_in(tmp_path, ["nash-md", "--resume", "--out", "run.h5", "--quiet"])
    assert done.returncode == 0, done.stderr
    assert run_in(tmp_path, [*judged, "--out", "whole.h5"]).returncode == 0
    assert same_as(path, fingerprint(read_run(tmp_path / "whole.h5")))


def test_a_judge_that_answers_nonsense_later_on_costs_no_step_either(
    tmp_path: Path, judged: list[str]
) -> None:
    text = "def judge(prompts, a, b, calls=[]):\n    calls.append(1)\n"
    text += "    return [float('nan') if len(calls) == 5 else 0.5 for _ in a]\n"
    (tmp_path / "failing_judge.py").write_text(text)
    sys.modules.pop("failing_judge", None)
    result = call(*judged, "--out", "run.h5")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "preference failing_judge:judge gave NaN" in line
    assert line.endswith("a checkpoint of step 3 is written; go on with --resume --out run.h5")
    assert call("nash-md", "--resume", "--out", "run.h5", "--quiet").exit_code == 0


@pytest.mark.parametrize("number", STOPPING)
def test_every_signal_that_asks_to_stop_stops_after_the_step(tmp_path: Path, number: int) -> None:
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"

    def stop() -> None:
        signal.signal(number, signal.SIG_DFL)
        end_at(5, number, True)()

    # A shell's background jobs ignore Ctrl-C.
    if number == signal.SIGINT:

        def stop() -> None:
            signal.signal(number, signal.default_int_handler)
            end_at(5, number, True)()

    assert command([*NASH, "--out", path], stop) == 75
    run = read_run(path)
    assert (run.status, run.sealed, len(run.table()["step"])) == ("stopped", True, 1)
    stops = [event["signal"] for event in run.events if event["kind"] == "stopped"]
    assert stops == [signal.Signals(number).name]
    assert command([*NASH, "--resume", "--out", path]) == 0
    assert command([*NASH, "--out", whole]) == 0
    assert same_as(path, fingerprint(read_run(whole)))


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_at(5, signal.SIGHUP, True)()

    assert command([*NASH, "--out", tmp_path / "run.h5"], ignore) == 0
