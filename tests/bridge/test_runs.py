"""`runs list`, `runs show` and `runs recover`, as a user calls them."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result

from bridge.errors import InputError, RunFailed
from bridge.runlog import describe_log, list_runs, read_run
from cli import main
from tests.bridge.records import Epoch, Step, new_log, row, sealed_log


def call(*args: Any) -> Result:
    """Call the program."""
    return CliRunner().invoke(main, ["runs", *map(str, args)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logs of every state."""
    sealed_log(tmp_path / "good.h5")
    with new_log(tmp_path / "copied.h5", command="cli.py eqprop-run --epochs 3") as log:
        for step in range(5):
            log.log("metrics", row(step))
        shutil.copy(log.path, tmp_path / "died.h5")
    log = new_log(tmp_path / "failed.h5")
    with pytest.raises(RunFailed), log:
        _diverge()
    (tmp_path / "text.h5").write_text("no log")
    return tmp_path


def _diverge() -> None:
    raise RunFailed("the state diverged")


def test_list_tells_the_state_of_every_log(folder: Path) -> None:
    rows = {Path(row["log"]).name: row for row in json.loads(call("list", folder, "--json").stdout)}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "good.h5": "finished",
        "copied.h5": "finished",
        "died.h5": "died",
        "failed.h5": "failed",
        "text.h5": "unreadable",
    }
    assert rows["died.h5"]["command"] == "eqprop-run"
    assert rows["died.h5"]["note"] == f"seal it: runs recover {folder / 'died.h5'}"
    assert rows["failed.h5"]["note"] == "RunFailed: the state diverged"
    assert rows["failed.h5"]["step"] is None
    assert (rows["good.h5"]["rows"], rows["good.h5"]["step"]) == (21, 20)
    assert rows["text.h5"]["note"] == "no HDF5 file"


def test_list_prints_a_line_a_log(folder: Path) -> None:
    result = call("list", folder / "good.h5", folder / "died.h5")
    assert result.exit_code == 0
    heading, *lines = result.stdout.splitlines()
    assert heading.split()[:3] == ["log", "command", "result"]
    assert [Path(line.split()[0]).name for line in lines] == ["good.h5", "died.h5"]


def test_a_log_that_grows_is_running(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        log.log("metrics", row(3))
        (found,) = json.loads(call("list", tmp_path, "--json").stdout)
        shown = json.loads(call("show", log.path, "--json").stdout)
    assert (found["state"], found["step"], found["note"]) == ("running", 3, "")
    assert shown["sealed"] is False


def test_show_tells_facts_config_and_figures(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5", config={"epochs": 3, "optimizer": {"rate": 0.5}}) as log:
        log.log("metrics", row(3))
        log.log("metrics", Step(4, float("nan"), False, "free"))
        log.event("note", text="all well")
    result = call("show", log.path)
    assert result.exit_code == 0
    for text in ("git_commit", "optimizer.rate", "metrics: 2 rows", "epochs: 0 rows", "all well"):
        assert text in result.stdout
    shown = json.loads(call("show", log.path, "--json").stdout)
    loss = shown["tables"]["metrics"]["columns"]["loss"]
    assert loss == {"first": 1.0, "last": None, "min": 1.0, "max": 1.0}
    assert shown["tables"]["metrics"]["columns"]["phase"] == {"first": "nudged", "last": "free"}
    assert shown["config"] == {"epochs": 3, "optimizer": {"rate": 0.5}}
    assert shown["meta"]["seed"] == 7


def test_recover_makes_an_ordinary_file(folder: Path) -> None:
    result = call("recover", folder / "died.h5", folder / "good.h5", "--json")
    assert result.exit_code == 0
    assert [each["dropped"] for each in json.loads(result.stdout)] == [{}, {}]
    with h5py.File(folder / "died.h5") as file:
        assert file["metrics/step"].shape == (5,)  # type: ignore[union-attr]
    assert call("recover", folder / "died.h5").stdout.splitlines()[1].split()[-1] == "0"


@pytest.mark.parametrize("command", ["list", "show", "recover"])
def test_mistakes_are_one_line(tmp_path: Path, command: str) -> None:
    result = call(command, tmp_path / "none.h5")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'none.h5'}: ")
    assert result.stderr.count("\n") == 1


def test_damaged_rows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "died.h5"
    with new_log(tmp_path / "run.h5") as log:
        for step in range(5):
            log.log("epochs", Epoch(step, step, 0.125 + step))
        data = bytearray(log.path.read_bytes())
    # A growing log has every row twice.
    path.write_bytes(data.replace(struct.pack("<d", 3.125), struct.pack("<d", 3.25)))
    (found,) = json.loads(call("list", path, "--json").stdout)
    assert found["note"] == "damaged rows: 2 of epochs"


def test_a_summary_says_what_the_rows_say(tmp_path: Path) -> None:
    path = sealed_log(tmp_path / "run.h5")
    (with_summary,), about = list_runs([path]), describe_log(path)
    with h5py.File(path, "r+") as file:
        # As older programs have sealed it.
        del file["summary"], file.attrs["summary"]
    (without,), read = list_runs([path]), describe_log(path)
    moving = ("age",)
    for name in moving:
        del with_summary[name], without[name], about[name], read[name]
    assert with_summary == without
    assert about == read
    assert about["tables"]["metrics"]["columns"]["loss"]["max"] == 19 / 3


def test_a_damaged_summary_is_a_damaged_log(tmp_path: Path) -> None:
    path = sealed_log(tmp_path / "run.h5")
    data = path.read_bytes()
    place = data.index(b'"heartbeat"')
    path.write_bytes(data[:place] + b"x" + data[place + 1 :])
    (found,) = list_runs([path])
    assert (found["state"], found["note"]) == ("unreadable", "damaged log: /summary")
    with pytest.raises(InputError, match="damaged log: /summary"):
        read_run(path)
