"""The console: exit codes, one line per error, tables that pipes can read."""

from __future__ import annotations

from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result

from bridge.console import (
    Commands,
    RowTable,
    common_options,
    resolve_device,
    set_threads,
    table,
)
from bridge.errors import InputError, RunFailed, StorageError


@click.group(cls=Commands)
def program() -> None:
    """Try the group."""


ERRORS: dict[str, BaseException] = {
    "input": InputError("seed=-1", "size=0"),
    "failed": RunFailed("diverged"),
    "storage": StorageError("disk full"),
    "interrupt": KeyboardInterrupt(),
    "abort": click.Abort(),
    "bug": ZeroDivisionError("a bug"),
}


@program.command()
@click.argument("kind", type=click.Choice([*ERRORS, "none", "outside"]))
@click.option("--learning-rate", type=float)
@click.pass_context
def fail(ctx: click.Context, kind: str, learning_rate: float | None) -> None:
    """End in some way."""
    if kind in ERRORS:
        raise ERRORS[kind]
    if kind == "outside":
        ctx.exit(3)


@program.group()
def runs() -> None:
    """A group inside."""


@runs.command()
@common_options()
def show(**options: Any) -> None:
    """Print the options."""
    click.echo(sorted(options))


@runs.command("set")
@common_options("set", "json")
def set_(**options: Any) -> None:
    """Print the options."""
    click.echo(options)


def run(*args: str) -> Result:
    """Call the program."""
    return CliRunner().invoke(program, args)


@pytest.mark.parametrize(
    ("kind", "code", "lines"),
    [
        ("none", 0, ""),
        ("outside", 3, ""),
        ("input", 2, "error: seed=-1\nerror: size=0\n"),
        ("failed", 1, "error: diverged\n"),
        ("storage", 74, "error: disk full\n"),
        ("interrupt", 130, "\nerror: interrupted\n"),
        ("abort", 130, "error: interrupted\n"),
    ],
)
def test_each_error_has_its_exit_code_and_a_line(kind: str, code: int, lines: str) -> None:
    result = run("fail", kind)
    assert result.exit_code == code
    assert result.stderr == lines
    assert result.stdout == ""


def test_a_bug_keeps_its_traceback() -> None:
    result = run("fail", "bug")
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fial", "none"], "no such command 'fial'; did you mean 'fail'?"),
        (["zzz"], "no such command 'zzz'; use one of fail, runs"),
        (["runs", "shw"], "no such command 'shw'; did you mean 'show'?"),
        (["fail", "none", "--learning-rat", "1"], "--learning-rate"),
        (["fail", "none", "--zzz", "1"], "options: --learning-rate"),
        (["fail", "none", "--learning-rate", "x"], "'x' is not a valid float"),
        (["fail"], "Missing argument"),
        (["fail", "other"], "is not one of"),
        (["runs", "show", "--seed", "-1"], "-1 is not in the range"),
        (["runs", "show", "--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["runs", "show", "--threads", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_one_line_and_names_the_nearest(args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")


def test_help_is_help() -> None:
    for args in (["--help"], ["runs", "--help"], ["runs", "show", "--help"]):
        result = run(*args)
        assert result.exit_code == 0
        assert "Usage:" in result.stdout


def test_common_options_arrive_by_name() -> None:
    expected = ["as_json", "device", "out", "overwrite", "quiet", "seed", "threads"]
    assert run("runs", "show").stdout == f"{expected}\n"
    result = run("runs", "set", "--set", "a=1", "--set", "b=2", "--json")
    assert result.stdout == "{'sets': ('a=1', 'b=2'), 'as_json': True}\n"


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [resolve_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(InputError, match="no usable GPU here; use --device cpu"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="use auto, cpu or cuda"):
        resolve_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_device(n) for n in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_threads_are_set_and_told() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(None) == 1
        assert set_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_table_that_is_piped_is_whole_and_not_padded(capsys: pytest.CaptureFixture[str]) -> None:
    long = "a name of [many] words " * 20
    table(["run", "error", "ok"], [[long, 1.23456, True], ["b", 10.0, None]], title="Runs")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Runs"
    assert lines[2].startswith(long.rstrip())
    assert lines[2].endswith("\t1.235\tyes")
    assert lines[3] == "b\t10"


def test_an_empty_table_has_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    table(["run"], [])
    assert capsys.readouterr().out.strip() == "run"


def test_rows_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows = RowTable({"epoch": "d", "test error": ".2f"})
    assert capsys.readouterr().out == ""
    rows.row(1, 2.345)
    assert capsys.readouterr().out == "   epoch  test error\n       1        2.35\n"
    rows.row(2, 1.0)
    assert capsys.readouterr().out == "       2        1.00\n"
    RowTable({"epoch": "d"}, quiet=True).row(1)
    assert capsys.readouterr().out == ""


def test_a_group_without_a_command_shows_its_help() -> None:
    @click.group(cls=Commands)
    def program() -> None:
        """Made up for a test."""

    @program.command()
    def one() -> None:
        """Do one thing."""

    result = CliRunner().invoke(program, [])
    assert result.exit_code == 2
    assert "Do one thing." in result.output
    assert "error:" not in result.output
