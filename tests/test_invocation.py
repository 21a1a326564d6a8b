"""Hints, help and logs call the program by the name that the user typed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.invocation import command_words, program, without_program
from bridge.runlog import read_run
from bridge.runlog.digest import command_of
from tests.command_line import call

ROOT = Path(__file__).parents[1]
PACKAGED = "/lib/site-packages/bioplaus/__main__.py"
CALLED = {
    "/opt/bin/bioplaus": "bioplaus",
    r"bioplaus.exe": "bioplaus",
    "cli.py": "python cli.py",
    "../here/cli.py": "python ../here/cli.py",
    PACKAGED: "python -m bioplaus",
}
ENTRY = "import sys\nfrom bioplaus_cli.main import main\nsys.exit(main())\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What pip writes for an entry point, under its name."""
    path = tmp_path / "bin" / "bioplaus"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{ENTRY}")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("argv", CALLED)
def test_hints_and_logs_have_the_name_that_was_typed(
    argv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, log = CALLED[argv], tmp_path / "my run.h5"
    words = ["nash-md", "--game", "elo", "--iterations", "3", "--out", str(log)]
    monkeypatch.setattr(sys, "argv", [argv, *words])
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"look at it: {name} runs show {shlex.quote(str(log))}\n")
    line = read_run(log).meta["command_line"]
    assert line == f"{name} {shlex.join(words)}"
    assert command_of(line) == "nash-md"
    assert f"{name} nash-md --game" in call("nash-md", "--help").stdout
    assert f"{name} runs list runs" in call("runs", "list", "--help").stdout


def test_a_script_of_the_users_stands_in_its_own_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--fast"])
    assert command_words() == ["train.py", "--fast"]
    assert (program(), command_words(["runs", "list"])) == (
        "bioplaus",
        ["bioplaus", "runs", "list"],
    )
    monkeypatch.setattr(sys, "argv", [""])
    assert program() == "bioplaus"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("cli.py eqprop-run --epochs 3", "eqprop-run"),
        ("/opt/bin/bioplaus nash-md", "nash-md"),
        ("python -m bioplaus --help rank", "rank"),
        ("python train.py 3", "train.py"),
        ("train.py", "train.py"),
        ("runs/train.py --rate 0.1 --out x.h5", "train.py"),
        ("", ""),
    ],
)
def test_a_command_is_found_in_old_lines_too(line: str, command: str) -> None:
    assert command_of(line) == command


def test_what_follows_the_program_does_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["eqprop-run", "-m", "x", "cli.py"]
    for argv in (*CALLED, "mine.py"):
        monkeypatch.setattr(sys, "argv", [argv, *words])
        assert without_program(command_words()) == words


def test_usage_begins_as_the_call_did(installed: Path) -> None:
    for start, name in (
        ([installed], "bioplaus"),
        ([sys.executable, "cli.py"], "python cli.py"),
        ([sys.executable, "-m", "bioplaus"], "python -m bioplaus"),
    ):
        said = subprocess.run(
            [*map(str, start), "compare", "--help"], cwd=ROOT, capture_output=True, text=True,
            env={"PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip
        assert said.startswith(f"Usage: {name} compare [OPTIONS]")
        assert f"Example: {name} compare runs/a.h5" in said
