"""One sweep at a time per folder, and an index rebuilt from its logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import InputError
from bridge.runlog import read_run
from bridge.sweep import lock as lock_module
from bridge.sweep.lock import LOCK, locked, require_unlocked
from tests.command_line import call, refused

ROOT = Path(__file__).parents[1]
NASH = ["nash-md", "--game", "rock-paper-scissors", "--iterations", "20", "--quiet"]
HOLD = """
import sys, time
from pathlib import Path
from bridge.sweep.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder, as a sweep does."""
    line = [sys.executable, "-c", HOLD, str(tmp_path / "many")]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_sweep_is_refused_before_it_writes_until_the_first_is_dead(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "many"
    before = files(folder)
    words = ("a sweep runs here already", f"process {holder.pid} on", "--out")
    for more in ([], ["--resume"], ["--overwrite"]):
        assert refused(call(*NASH, "--seeds", "0..1", "--out", folder, *more), *words)
    assert files(folder) == before
    assert before.keys() == {LOCK}
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    require_unlocked(folder)
    with locked(folder) as mine:
        mine.beat()
        with pytest.raises(InputError, match=f"process {os.getpid()}"):
            require_unlocked(folder)
    assert files(folder) == {}


def test_without_locks_of_the_system_the_file_tells(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(fd: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    folder = tmp_path / "many"
    with pytest.raises(InputError, match="a sweep runs here already"):
        require_unlocked(folder)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    require_unlocked(folder)
    about = json.loads((folder / LOCK).read_text())
    (folder / LOCK).write_text(json.dumps({**about, "host": "elsewhere"}))
    with pytest.raises(InputError, match=f"process {holder.pid} on elsewhere since"):
        require_unlocked(folder)
    monkeypatch.setattr(lock_module, "_SILENCE_SECONDS", 0.0)
    require_unlocked(folder)


def test_a_users_file_of_the_locks_name_stays(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("mine")
    with pytest.raises(InputError, match="no lock of a sweep"), locked(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "mine"


def test_a_users_table_of_the_indexs_name_stays(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("mine")
    assert refused(call(*NASH, "--seeds", "0", "--out", tmp_path), "index.csv", "no index")
    assert files(tmp_path) == {"index.csv": b"mine"}


@pytest.mark.slow
def test_an_index_is_made_anew_from_the_logs(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    result = call(*NASH, "--seeds", "0", "--sweep", "tau=0.1,0.5", "--out", folder)
    assert result.exit_code == 0, result.output
    before = {name: json.loads(text) for name, text in files(folder).items() if "json" in name}
    table = (folder / "index.csv").read_text()
    # as a second sweep left it: sound logs that are called failed
    wrong = json.loads(json.dumps(before["index.json"]).replace("finished", "failed"))
    (folder / "index.json").write_text(json.dumps(wrong))
    result = call("runs", "index", folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "index.json").read_text()) == before["index.json"]
    assert (folder / "index.csv").read_text() == table
    for name in ("index.json", "index.csv"):
        (folder / name).unlink()
    (folder / "broken.h5").write_bytes(b"no log")
    assert call("runs", "index", folder).exit_code == 0
    found = json.loads((folder / "index.json").read_text())
    runs = {each["log"]: each for each in found["runs"]}
    assert found["command"] == "nash-md"
    assert runs.pop("broken.h5")["status"] == "unreadable"
    for each in before["index.json"]["runs"]:
        same = ("point", "status", "exit_code", "summary", "saved", "message")
        assert {k: runs[each["log"]][k] for k in same} == {k: each[k] for k in same}
    assert refused(call("runs", "index", tmp_path), "has no logs")
    assert refused(call("runs", "index", tmp_path / "none"), "has no logs")


@pytest.mark.slow
def test_two_sweeps_at_once_leave_one_sound_folder(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    line = [sys.executable, "cli.py", *NASH, "--seeds", "0..1", "--out", str(folder), "--resume"]
    both = [subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(each.communicate()[1], each.returncode) for each in both]
    codes = sorted(code for _, code in ends)
    assert codes == [0, 2], ends
    assert any("a sweep runs here already" in said for said, _ in ends)
    index = json.loads((folder / "index.json").read_text())
    assert [each["status"] for each in index["runs"]] == ["finished", "finished"]
    assert all(read_run(folder / each["log"]).sealed for each in index["runs"])


@pytest.mark.slow
def test_a_run_that_outlives_its_sweep_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    long = [*NASH, "--set", "votes=5", "--seeds", "0", "--out", str(folder)]
    long[long.index("20")] = "6000"
    sweep = subprocess.Popen([sys.executable, "cli.py", *long], cwd=ROOT)
    while not (folder / "seed=0.h5").exists():
        time.sleep(0.02)
    pid = int(read_run(folder / "seed=0.h5").meta["pid"])
    os.kill(pid, signal.SIGSTOP)  # or a fast machine ends it first
    sweep.kill()
    sweep.wait()
    assert refused(call(*long, "--resume"), "seed=0.h5", "still being written by process")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    while Path("/proc", str(pid)).exists():
        time.sleep(0.05)
    assert call(*long, "--resume").exit_code == 0
    (run,) = json.loads((folder / "index.json").read_text())["runs"]
    found = read_run(folder / run["log"])
    assert (run["status"], found.status, found.sealed) == ("finished", "finished", True)
    assert found.table()["step"].tolist()[-1] == 6000
