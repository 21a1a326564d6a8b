"""A run never depends on what happens to the terminal; each case is a separate process."""

from __future__ import annotations

import importlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import terminal
from bridge.runlog import read_run
from bridge.runlog.provenance import provenance
from bridge.session import checkpoint_folder
from tests.resuming import forked, run_command

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")

ROOT = Path(__file__).parents[1]
CLI = f"{sys.executable} {ROOT / 'cli.py'}"
NASH = ["nash-md", "--game", "rock-paper-scissors", "--iterations", "20"]
slow = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Forks inherit the imports and the facts about the machine."""
    importlib.import_module("nlhf.training")
    provenance()


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True)


def process(args: list[object], out: str, err: str, encoding: str = "utf-8") -> tuple[int, str]:
    """Run a command in a process whose streams go to a path, are closed or have no reader.

    The process is forked from this one, which has imported everything already.

    Returns:
        Its exit code, and what it wrote to stderr where that is a file.
    """

    def work() -> int:
        reading, writing = os.pipe()
        os.close(reading)
        places = {"unread": writing, "closed": -1}
        opened = [places.get(p) or os.open(p, os.O_WRONLY | os.O_CREAT) for p in (out, err)]
        for fd, found in zip((1, 2), opened, strict=True):
            os.close(fd) if found < 0 else os.dup2(found, fd)
        for name, fd, place in (("stdout", 1, out), ("stderr", 2, err)):
            stream = None if place == "closed" else open(fd, "w", encoding=encoding)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        code = run_command(args)
        terminal.flush()
        return code

    code = forked(work)
    return code, Path(err).read_text() if Path(err).is_file() else ""


FULL = "/dev/full"


@pytest.mark.parametrize(
    ("more", "out", "err", "code", "said"),
    [
        ("", "closed", "closed", 0, ""),
        ("", "unread", "unread", 0, ""),
        ("", FULL, "err", 0, "warning: stdout cannot be written: No space left"),
        ("--json", FULL, "err", 74, "error: stdout: the result cannot be written: No space left"),
        pytest.param("", FULL, FULL, 0, "", marks=slow),
        pytest.param("", "closed", "err", 0, "", marks=slow),
        pytest.param("", "unread", "err", 0, "", marks=slow),
        pytest.param("", "out", "closed", 0, "", marks=slow),
        pytest.param("", "out", FULL, 0, "", marks=slow),
        pytest.param("--json", "unread", "err", 0, "", marks=slow),
        (
            "--json",
            "closed",
            "err",
            74,
            "error: stdout: the result cannot be written: it is closed",
        ),
        pytest.param("--json", FULL, "closed", 74, "", marks=slow),
        pytest.param("--seeds", FULL, "unread", 0, "", marks=slow),
    ],
)
def test_a_run_goes_on_without_its_terminal(
    tmp_path: Path, more: str, out: str, err: str, code: int, said: str
) -> None:
    path = tmp_path / "run"
    places = [str(tmp_path / p) if p in ("out", "err") else p for p in (out, err)]
    many = ["--seeds", "0..1"] if more == "--seeds" else ["--seed", 3, *filter(None, [more])]
    path = tmp_path / ("many" if more == "--seeds" else "run.h5")
    ended = process([*NASH, *many, "--out", path], places[0], places[1])
    assert ended[0] == code, ended[1]
    assert said in ended[1]
    assert "Traceback" not in ended[1]
    for log in [path] if path.is_file() else [path / "seed=0.h5", path / "seed=1.h5"]:
        run = read_run(log)
        assert (run.status, run.sealed, run.table()["step"][-1]) == ("finished", True, 20)
        assert not checkpoint_folder(log).exists()


@slow
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (" <&- >&- 2>&-", 0),
        (" --json > /dev/full", 74),
        (" --json >&-", 74),
        (" 2>&1 | head -1", 0),
        (" < /dev/null 1</dev/null", 0),
    ],
)
def test_so_it_is_from_a_shell(tmp_path: Path, ending: str, code: int) -> None:
    done = shell(f"set -o pipefail; cd {tmp_path}; {CLI} {' '.join(NASH)} --out run.h5{ending}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert read_run(tmp_path / "run.h5").state == "finished"
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    text = "import os\nfrom bridge import terminal\nterminal.own()\n"
    text += f"file = open({str(tmp_path / 'file')!r}, 'w')\nprint('to nobody', flush=True)\n"
    text += "os.write(2, b'nor this')\nfile.write(str(file.fileno()))"
    done = shell(f'cd {ROOT}; {sys.executable} -c "$TEXT" <&- >&- 2>&-', TEXT=text)
    assert done.returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["runs", "list"],
        pytest.param(["runs", "show"], marks=slow),
        pytest.param(["compare"], marks=slow),
    ],
)
def test_a_result_that_cannot_be_stored_is_a_failure_and_a_reader_that_leaves_is_none(
    tmp_path: Path, command: list[str]
) -> None:
    path, err = tmp_path / "run.h5", str(tmp_path / "err")
    if command != ["--help"]:
        assert process([*NASH, "--out", path], "/dev/null", err)[0] == 0
        command = [*command, str(path)]
    Path(err).unlink(missing_ok=True)
    assert process(command, FULL, err) == (
        74,
        "error: stdout: the result cannot be written: No space left on device; it is lost\n",
    )
    Path(err).unlink()
    assert process(command, "closed", err) == (
        74,
        "error: stdout: the result cannot be written: it is closed; it is lost\n",
    )
    Path(err).unlink()
    assert process(command, "unread", err) == (0, "")


def test_a_name_beyond_the_terminals_encoding_is_an_escape(tmp_path: Path) -> None:
    path, out = tmp_path / "K\xfcrbis \u8336.h5", tmp_path / "out"
    assert process([*NASH, "--out", path], str(out), "closed", "ascii")[0] == 0
    assert "K\\xfcrbis \\u8336.h5" in out.read_text("ascii")  # by click
    for encoding, shown in (("ascii", "K\\xfcrbis \\u8336"), ("latin-1", "K\xfcrbis \\u8336")):
        out.unlink()
        assert process(["runs", "list", path], str(out), "closed", encoding)[0] == 0
        assert shown in out.read_text(encoding)  # by rich


def on_a_terminal(path: Path, before: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Start a long run on its own terminal; give its process and the terminal's other end."""
    words = [*CLI.split(), *NASH[:-1], "6000", "--set", "votes=5", "--out", str(path)]
    pid, master = pty.fork()
    if pid == 0:
        before()
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(words[0], words)
    while not path.exists() or len(read_run(path).table()["step"]) < 50:
        os.read(master, 1 << 16)
        time.sleep(0.01)
    return pid, master


@pytest.mark.slow
def test_a_terminal_that_closes_stops_a_run_which_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    pid, master = on_a_terminal(path)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    run = read_run(path)
    assert (run.status, run.sealed) == ("stopped", True)
    stops = [event["signal"] for event in run.events if event["kind"] == "stopped"]
    assert stops == ["SIGHUP"]
    assert len(list(checkpoint_folder(path).iterdir())) == 1


@slow
def test_under_nohup_a_run_outlives_its_terminal(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    pid, master = on_a_terminal(path, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert read_run(path).status == "finished"
    assert read_run(path).table()["step"][-1] == 6000


@slow
def test_a_pager_that_stops_reading_does_not_stop_a_run() -> None:
    """The command prints more than a pipe holds, and nobody reads it."""
    text = """
import sys, time
from bridge import terminal
terminal.own()
began = time.monotonic()
with terminal.unwaiting():
    for i in range(200):
        print("x" * 1000, flush=True)
sys.stderr.write(str(time.monotonic() - began < 30))
"""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        assert process.communicate(timeout=120)[1] == b"True"
    os.close(reading)
    os.close(writing)
