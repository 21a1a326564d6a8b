"""What a run survives, shown with the command as a process: signals, lost logs, foreign files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.session import checkpoint_folder
from tests.command_line import call

ROOT = Path(__file__).parents[1]
STEPS = 400
NASH = [
    "nash-md",
    "--game",
    "biased-rock-paper-scissors",
    "--iterations",
    str(STEPS),
    "--seed",
    "3",
]
NASH += ["--iterations", str(STEPS), "--checkpoint-every", "40", "--quiet"]
MINE = ("notes", "step-000000000001", ".step-000000000009.123", "folder/notes")


def start(path: Path, *more: str) -> subprocess.Popen[str]:
    """Start a run."""
    line = [sys.executable, str(ROOT / "cli.py"), *NASH, "--out", str(path), *more]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Give a run's exit code and what it wrote to stderr."""
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def made_by_runs(path: Path) -> list[Path]:
    """Checkpoints of a run, newest first, without a user's files of similar names."""
    return [each for each in checkpoints(checkpoint_folder(path)) if each.name not in MINE]


def wait_for_checkpoint(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a run has its first checkpoint."""
    while not made_by_runs(path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def litter(folder: Path) -> None:
    """Put a user's own files where a run keeps its checkpoints."""
    for name in MINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def untouched(folder: Path) -> bool:
    """Whether these files are unchanged, and there are no others."""
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    return found == dict.fromkeys(MINE, "mine")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    assert call(*NASH, "--out", path).exit_code == 0
    return path


def rows(path: Path) -> dict[int, list[float]]:
    """The rows of a log by step."""
    table = read_run(path).table()
    values = zip(*(each.tolist() for each in table.values()), strict=True)
    return dict(zip(table["step"].tolist(), map(list, values), strict=True))


@pytest.mark.slow
def test_a_strangers_files_outlive_a_run_a_stop_and_the_loss_of_its_log(
    tmp_path: Path, whole: Path
) -> None:
    path = tmp_path / "run.h5"
    litter(checkpoint_folder(path))
    process = start(path)
    wait_for_checkpoint(process, path)
    process.send_signal(signal.SIGUSR1)
    code, said = ended(process)
    assert code == 75, said
    assert f"go on with --resume --out {path}" in said
    assert read_run(path).status == "stopped"
    kept = made_by_runs(path)[0]
    done = int(kept.name.removeprefix("step-"))
    assert 0 < done < STEPS
    path.unlink()
    code, said = ended(start(path, "--resume"))
    assert code == 0, said
    assert f"there is no such log; going on from {kept.name}" in said
    assert read_run(path).status == "finished"
    assert rows(path) == {step: row for step, row in rows(whole).items() if step > done}
    assert untouched(checkpoint_folder(path))


def _replaced(path: Path) -> None:
    path.unlink()
    path.write_text("another's")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "how"),
    [
        (Path.unlink, "deleted"),
        (lambda path: path.rename(path.with_name("elsewhere.h5")), "moved"),
        (_replaced, "replaced by another file"),
        (lambda path: path.parent.rename(path.parents[1] / "elsewhere"), "moved"),
    ],
    ids=["deleted", "moved", "replaced", "folder"],
)
def test_a_run_whose_log_goes_away_stops_with_a_checkpoint(
    tmp_path: Path, lose: Callable[[Path], object], how: str
) -> None:
    """A run checks every five seconds that its log exists, so a longer run notices the loss."""
    path = tmp_path / "folder" / "run.h5"
    process = start(path, "--iterations", "1000000")
    wait_for_checkpoint(process, path)
    lose(path)
    code, said = ended(process)
    assert code == 1, said
    assert f"{path}: this log was {how} while the run wrote it" in said
    assert "Traceback" not in said
    newest = made_by_runs(path)[0]
    step = int(newest.name.removeprefix("step-"))
    assert f"a checkpoint of step {step} is written" in said
    assert path.exists() == (how == "replaced by another file")
    if path.exists():
        assert path.read_text() == "another's"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
def test_a_signal_stops_a_run_which_then_goes_on_to_the_same_end(
    tmp_path: Path, whole: Path, number: int
) -> None:
    path = tmp_path / "run.h5"
    process = start(path)
    wait_for_checkpoint(process, path)
    process.send_signal(number)
    code, said = ended(process)
    assert (code, said.count("\n")) == (75, 1), said
    assert f"stopped by {signal.Signals(number).name} after step" in said
    assert ended(start(path, "--resume"))[0] == 0
    assert rows(path) == rows(whole)
    assert not checkpoint_folder(path).exists()
