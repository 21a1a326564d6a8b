"""The headline of a run: in the log, in viewers, and first in lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result

from bioplaus_cli.runs import runs_list
from bridge.console.tables import shortened
from bridge.headline import Headline, first_of
from bridge.runlog import list_runs, open_run, recover
from bridge.runlog.choosing import Condition, differing, named
from cli import main
from tests.bridge.headlines import HEADLINE, Batch, Pass, judged_log


def call(*args: Any) -> Result:
    """Call the program."""
    return CliRunner().invoke(main, ["runs", *map(str, args)])


def listed(*args: Any) -> list[str]:
    """The stems of the logs that a list has, in its order."""
    result = call("list", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return [Path(row["log"]).stem for row in json.loads(result.stdout)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    judged_log(tmp_path / "a.h5", [9.0, 4.0], rate=0.1)
    judged_log(tmp_path / "b.h5", [8.0, 5.0], rate=0.2)
    judged_log(tmp_path / "c.h5", [7.0, 3.0], rate=0.2, seed=1)
    judged_log(tmp_path / "d.h5", [], rate=0.2, seed=2)
    return tmp_path


def nexus(path: Path) -> dict[str, Any]:
    """What a viewer that follows NeXus draws of a file, at once."""
    with h5py.File(path, "r", swmr=True) as file:
        group: Any = file[file.attrs["default"]]
        signal = group[group.attrs["signal"]]
        axes = list(group.attrs["axes"])
        return {
            "class": group.attrs["NX_class"],
            "signal": signal.name,
            "title": signal.attrs["long_name"],
            "units": signal.attrs["units"],
            "axes": axes,
            "indices": [int(group.attrs[f"{axis}_indices"]) for axis in axes],
            "others": "auxiliary_signals" in group.attrs,
        }


def test_viewers_open_at_the_headline_while_it_grows_and_when_it_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    expected = {
        "class": "NXdata",
        "signal": "/epochs/error",
        "title": "test error (%)",
        "units": "%",
        "axes": ["epoch"],
        "indices": [0],
        "others": False,
    }
    tables = {"metrics": Batch, "epochs": Pass}
    with open_run(path, tables=tables, config={}, seed=0, headline=HEADLINE) as log:
        log.log("epochs", Pass(10, 1, 0.25, 4.0))
        assert nexus(path) == expected
        grown = tmp_path / "grown.h5"
        grown.write_bytes(path.read_bytes())
    assert nexus(path) == expected
    recover(grown)
    assert nexus(grown) == expected


def test_a_headline_that_no_table_has_is_refused(tmp_path: Path) -> None:
    for metric, over in (
        ("epochs/errors", "epoch"),
        ("epoch/error", "epoch"),
        ("epochs/error", "t"),
    ):
        wrong = Headline(metric=metric, over=over)
        with pytest.raises(ValueError, match=f"headline='{metric}'"):
            judged_log(tmp_path / "run.h5", [], headline=wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ['{"metric": "epochs"}', '{"better": "up"}', "no JSON", "[]"])
def test_a_strangers_headline_is_one_line(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Headline, "model_dump_json", lambda self: text)
    monkeypatch.setattr("bridge.runlog.opening.headline_of", lambda meta, names: HEADLINE)
    with pytest.raises(Exception, match="headline"):
        judged_log(tmp_path / "run.h5", [1.0])
    (row,) = list_runs([tmp_path / "run.h5"])
    assert row["state"] == "unreadable"
    assert row["note"].startswith("/meta/headline")


def test_the_first_headline_that_is_measured_counts() -> None:
    other = Headline(metric="epochs/accuracy", better="higher")
    assert first_of([other, HEADLINE], {"epochs": ["error"]}) == HEADLINE
    assert first_of([other], {"metrics": ["accuracy"]}) is None


def test_the_result_is_that_of_the_last_step(folder: Path) -> None:
    rows = {Path(row["log"]).stem: row for row in list_runs(sorted(folder.glob("*.h5")))}
    assert {name: row["result"] for name, row in rows.items()} == {
        "a": 4.0, "b": 5.0, "c": 3.0, "d": None,
    }  # fmt: skip
    about = {key: rows["a"][key] for key in ("metric", "label", "unit", "better")}
    assert about == {
        "metric": "epochs/error",
        "label": "test error",
        "unit": "%",
        "better": "lower",
    }
    assert rows["a"]["config"] == {"optimizer": {"rate": 0.1}, "seed": 0}


def test_several_rows_of_the_last_step_become_one(tmp_path: Path) -> None:
    for of_rows, expected in (("mean", 4.0), ("smallest", 2.0), ("largest", 6.0)):
        path = tmp_path / f"{of_rows}.h5"
        headline = Headline.model_validate({"metric": "metrics/error", "of_rows": of_rows})
        tables = {"metrics": Batch}
        with open_run(path, tables=tables, config={}, seed=0, headline=headline) as log:
            for step in range(100):
                log.log("metrics", Batch(step, 0.0))
            for error in (2.0, 6.0, 4.0):
                log.log("metrics", Batch(100, error))
            assert list_runs([path])[0]["result"] == expected
        assert list_runs([path])[0]["result"] == expected


def test_logs_that_say_no_headline_have_that_of_their_command(tmp_path: Path) -> None:
    path = judged_log(tmp_path / "old.h5", [9.0, 4.0], headline=None)
    with h5py.File(path, "r+") as file:
        # As older programs have sealed it.
        del file["summary"], file.attrs["summary"]
    assert list_runs([path])[0]["result"] is None
    (row,) = list_runs([path], {"eqprop-run": (Headline(metric="epochs/none"), HEADLINE)})
    assert (row["result"], row["metric"]) == (4.0, "epochs/error")


def test_list_sorts_the_best_result_first_and_what_has_none_last(folder: Path) -> None:
    assert listed(folder, "--sort", "result") == ["c", "a", "b", "d"]
    assert listed(folder, "--sort", "result", "--reverse") == ["b", "a", "c", "d"]
    assert listed(folder, "--sort", "seed", "--reverse")[:2] == ["d", "c"]
    assert listed(folder, "--sort", "optimizer.rate")[0] == "a"
    higher = HEADLINE.model_copy(update={"better": "higher"})
    judged_log(folder / "high" / "e.h5", [1.0], headline=higher)
    judged_log(folder / "high" / "f.h5", [2.0], headline=higher)
    assert listed(folder / "high", "--sort", "result") == ["f", "e"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("status=finished", "optimizer.rate=0.2"), "bcd"), (("state!=finished",), ""),
        (("result<4",), "c"), (("result>=4",), "ab"), (("seed!=0",), "cd"),
        (("result=",), "d"), (("result!=",), "abc"), (("command=eqprop-run",), "abcd"),
        (("alive=true",), ""),
        (("optimizer.rate<=0.15",), "a"), (("metric=epochs/error",), "abcd"),
    ],
)  # fmt: skip
def test_list_filters(folder: Path, conditions: tuple[str, ...], expected: str) -> None:
    options = [word for each in conditions for word in ("--filter", each)]
    assert sorted(listed(folder, *options)) == list(expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--filter", "optimizer.rates=1"), "did you mean 'optimizer.rate'?"),
        (("--filter", "rate=1"), "did you mean 'optimizer.rate'?"),
        (("--sort", "results"), "did you mean 'result'?"),
        (("--filter", "finished"), "write KEY=VALUE"),
        (("--reverse",), "--sort"),
    ],
)
def test_mistakes_of_a_list_are_one_line(folder: Path, options: tuple[str, ...], said: str) -> None:
    result = call("list", folder, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_conditions_compare_lists_and_words_as_they_are_written() -> None:
    assert Condition.parse("hidden=[64, 64]").holds([64, 64])
    assert Condition.parse("name=asym-ep").holds("asym-ep")
    assert not Condition.parse("size=10").holds(9)
    assert Condition.parse("size<10").holds(9)
    assert Condition.parse("size=1e1").holds(10)


def test_a_piped_list_is_not_padded_and_quiet_says_nothing_else(folder: Path) -> None:
    (folder / "text.h5").write_text("no log")
    result = call("list", *(folder / f"{name}.h5" for name in ("a", "c", "text")))
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0] == ["log", "command", "test error (%)", "rate", "seed", "age", "status"]
    by_name = {Path(line[0]).stem: line for line in lines[1:]}
    assert by_name["a"][1:5] == ["eqprop-run", "4", "0.1", "0"]
    assert by_name["c"][1:5] == ["eqprop-run", "3", "0.2", "1"]
    assert by_name["text"][-1] == "unreadable"
    assert result.stderr == f"{folder / 'text.h5'}: no HDF5 file\n"
    quiet = call("list", folder, "--quiet")
    assert quiet.stderr == ""


def test_a_list_fits_eighty_columns(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = folder / "a-folder-with-a-long-name"
    for seed in range(3):
        judged_log(long / f"eqprop-run-20260101-12000{seed}-abc12{seed}.h5", [1 / 3], seed=seed)
    judged_log(long / "another-command-20260101-120000-abc123.h5", [], seed=3)
    for name, value in (("COLUMNS", "80"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert runs_list.callback is not None
    runs_list.callback((long,), None, False, (), False, True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    for seed in range(3):
        assert sum(f"abc12{seed}.h5" in line and f"  {seed}  " in line for line in lines) == 1


def test_the_middle_of_a_path_goes_first() -> None:
    assert shortened("runs/eqprop-run-1234.h5", 14) == "runs/…-1234.h5"
    assert shortened("learning_rate 0.1", 10, "end") == "learning_…"
    assert shortened("short", 14) == "short"
    assert shortened("x" * 30, 5) == "xx…xx"


def test_what_differs_is_said_for_each_command(folder: Path) -> None:
    judged_log(folder / "n.h5", [1.0], command="cli.py nash-md", tau=0.5)
    rows = sorted(list_runs(folder.glob("*.h5")), key=lambda row: row["log"])
    assert differing(rows)[0] == {"optimizer.rate": 0.1, "seed": 0}
    assert differing(rows)[-1] == {}
    assert named({"a.rate": 0.1, "b.rate": 0.25, "estimator.name": "ep"}) == (
        "a.rate 0.1, b.rate 0.25, estimator ep"
    )
