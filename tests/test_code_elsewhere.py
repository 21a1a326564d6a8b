"""Users' code in another folder, or named from another folder: sweeps, torchrun, logs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bridge import usercode
from bridge.runlog import read_run
from tests.command_line import call, refused
from tests.many_processes import run
from tests.test_fields_by_name import CODE

FILE = "../code/mine.py"
NAMED = ["--field", f"{FILE}:net", "--cost", f"{FILE}:cost", "--dataset", f"{FILE}:load"]
NAMED += ["--estimator", f"{FILE}:Rule"]
RUN = ["eqprop-run", *NAMED, "--epochs", "1", "--seed", "3", "--quiet", "--set", "batch_size=10"]
WHAT = {"dataset", "field", "estimator", "cost"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder next to that of the code, which imports its own neighbours."""
    (tmp_path / "code").mkdir()
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "code" / "mine.py").write_text(f"import lies_beside\n{CODE}")
    (tmp_path / "code" / "lies_beside.py").write_text("value = 1\n")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(usercode, "_homes", {})
    return tmp_path


def noted(path: Path | str) -> dict[str, str]:
    return {e["what"]: e["file"] for e in read_run(path).events if e["kind"] == "code"}


def compared(log: str, *args: object) -> tuple[float, list[str]]:
    """The result of gradcheck on a log's network, and its warnings."""
    check = ["gradcheck", "--from-run", log, "--batch", 3, "--beta", 1e-3, "--json"]
    done = call(*check, "--estimator", "asym-ep", "--out", "g.h5", "--overwrite", *args)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["rows"][0]["relative_error"], done.stderr.splitlines()


def test_a_log_is_read_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*RUN, "--out", "run.h5").exit_code == 0
    assert noted("run.h5") == dict.fromkeys(WHAT, str((here / "code" / "mine.py").resolve()))
    error, said = compared("run.h5")
    assert error < 1e-4
    assert said == []
    monkeypatch.chdir(here / "work" / "deep")
    assert compared("../run.h5") == (error, [])
    assert noted("g.h5").keys() == WHAT
    more = ["--resume", "--epochs", 2, "--reschedule", "--out", "../run.h5", "--quiet"]
    assert call("eqprop-run", *more).exit_code == 0
    with (here / "code" / "mine.py").open("a") as file:
        file.write("# another line\n")
    same, said = compared("../run.h5")
    assert 0 < same < 1e-4
    assert {line.partition("=")[0].removeprefix("warning: ") for line in said} == WHAT
    assert all("mine.py has changed since the run began (sha256 " in line for line in said)


def test_a_module_is_found_where_it_lay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "code")
    run = ["eqprop-run", "--field", "mine:net", "--dataset", "mine:load", "--epochs", 1]
    assert call(*run, "--estimator", "asym-ep", "--out", "run.h5", "--quiet").exit_code == 0
    sys.path[:] = [each for each in sys.path if not each.startswith(str(here))]
    for name in ("mine", "lies_beside"):
        del sys.modules[name]
    monkeypatch.chdir(here / "work")
    assert compared("../code/run.h5")[1] == []


@pytest.mark.slow
def test_a_sweep_runs_it(here: Path) -> None:
    over = f"estimator.name=asym-ep,{FILE}:Rule"
    args = ["eqprop-run", *NAMED[:6], "--epochs", "1", "--seeds", "0..1", "--jobs", "2"]
    assert call(*args, "--sweep", over, "--out", "all", "--json").exit_code == 0
    logs = sorted((here / "work" / "all").glob("*.h5"))
    assert len(logs) == 4
    files = [noted(log) for log in logs]
    assert sorted(map(len, files)) == [3, 3, 4, 4]
    assert {file for each in files for file in each.values()} == {str(here / "code" / "mine.py")}
    wrong = call(*args, "--sweep", f"estimator.name=asym-ep,{FILE}:Rul", "--out", "none")
    assert refused(wrong, "did you mean 'Rule'?")
    assert not Path("none").exists()


@pytest.mark.slow
def test_several_processes_run_it(here: Path) -> None:
    """Two processes give the same bits as one, also from another folder."""
    weights = []
    for size in (1, 2):
        log = f"{size}.h5"
        done = run(size, [*RUN, "--set", "micro_shards=2", "--out", log])
        assert done.returncode == 0, done.stderr
        assert noted(log).keys() == WHAT
        weights.append(read_run(log).weights()[1])
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
