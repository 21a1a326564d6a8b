"""Many runs of one command: what is run, what is not repeated, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputError, RunFailed, Stopped, StorageError
from bridge.runlog import read_run
from bridge.sweep import (
    MAX_RUNS,
    Job,
    Processes,
    parse_seeds,
    parse_sweep,
    point_name,
    points,
    run_jobs,
)
from tests.command_line import call, refused
from tests.resuming import fingerprint, same_as

NASH = ["--game", "rock-paper-scissors", "--set", "votes=5", "--iterations", "20", "--quiet"]
ROOT = Path(__file__).parents[1]


def python(text: str, *args: object) -> list[str]:
    """A process that runs a few lines of Python without slow imports."""
    return [sys.executable, "-S", "-c", text, *map(str, args)]


def jobs(folder: Path, *texts: str) -> list[Job]:
    """One job per text; none leaves a log."""
    return [Job(folder / f"{i}.h5", {"seed": i}, python(t)) for i, t in enumerate(texts)]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_seeds() -> None:
    assert parse_seeds("0..9") == [str(i) for i in range(10)]
    assert parse_seeds("4") == ["4"]
    assert parse_seeds("7, 0..2") == ["7", "0", "1", "2"]


@pytest.mark.parametrize(
    "text", ["", "a", "-1", "3..1", "1..", "0...3", "1,1", "0..2,2", "1.5", "²", f"0..{10**17}"]
)
def test_bad_seeds(text: str) -> None:
    assert refused(call("nash-md", *NASH, "--seeds", text), f"--seeds {text}")


def test_values_keep_brackets_and_quotes() -> None:
    assert parse_sweep("network.hidden=[8, 8],[4]") == ("network.hidden", ["[8, 8]", "[4]"])
    assert parse_sweep("""a="x,y",'z'""") == ("a", ['"x,y"', "'z'"])


@given(st.lists(st.integers(0, 5000), unique=True, min_size=1), st.data())
def test_every_combination_once(seeds: list[int], data: st.DataObject) -> None:
    texts = st.lists(st.floats(0.1, 9).map(str), unique=True, min_size=1, max_size=3)
    a, b = data.draw(texts), data.draw(texts)
    if len(seeds) * len(a) * len(b) > MAX_RUNS:
        return
    found = points(",".join(map(str, seeds)), [f"a={','.join(a)}", f"b.c={','.join(b)}"])
    expected = {(x, y, str(seed)) for x in a for y in b for seed in seeds}
    assert len(found) == len(expected)
    assert {tuple(point.values()) for point in found} == expected
    assert len({point_name(point) for point in found}) == len(found)


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), min_size=1, max_size=4))
def test_a_name_is_a_file_of_the_folder(point: dict[str, str]) -> None:
    name = point_name(point) + ".h5"
    assert Path(name).name == name
    assert len(name.encode()) < 200


def test_names_that_look_alike_differ() -> None:
    assert point_name({"a": "x/y"}) != point_name({"a": "x-y"}) != point_name({"a": "x y"})


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--sweep", "tua=1,2"], "did you mean 'tau'"),
        (["--sweep", "tau=0.1,-1"], "--sweep tau=-1"),
        (["--sweep", "tau"], "key=a,b,c"),
        (["--sweep", "tau=0.1,,1"], "empty"),
        (["--sweep", "tau=1,1"], "twice"),
        (["--sweep", "tau=1", "--sweep", "tau=2"], "twice"),
        (["--seeds", "0..1", "--sweep", "seed=3"], "twice"),
        (["--seeds", "0..1", "--seed", "3"], "seed is swept"),
        (["--sweep", "votes=1,2"], "votes is swept"),
        (["--seeds", f"0..{MAX_RUNS}"], str(MAX_RUNS)),
        (["--seeds", "0..999", "--sweep", "tau=" + ",".join(map(str, range(1, 99)))], "98000"),
        (["--seeds", "0..1", "--plot", "x.png"], "--plot"),
        (["--seeds", "0..1", "--resume", "--overwrite"], "--overwrite"),
        (["--jobs", "2"], "--seeds"),
    ],
)
def test_refused_before_anything_is_written(tmp_path: Path, args: list[str], word: str) -> None:
    assert refused(call("nash-md", *NASH, "--out", tmp_path / "new", *args), word)
    assert not list(tmp_path.iterdir())


def test_eqprop_configs_are_checked_first(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "new", "--seeds", "0..1"]
    assert refused(call("eqprop-run", *out, "--sweep", "epochs=1,x"), "--sweep epochs=x")
    assert refused(call("eqprop-run", *out, "--plot", "x.png"), "--plot")
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert refused(call("nash-md", *NASH, "--seeds", "1", "--out", tmp_path / "file"), "file")
    assert refused(call("nash-md", *NASH, "--out", tmp_path), "is a directory")
    assert content(tmp_path) == {"file": b"mine"}


@pytest.mark.slow
def test_a_sweep_is_its_runs_and_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    sweep = [*NASH, "--sweep", "tau=0.1,0.5", "--seed", "3", "--out", folder]
    result = call("nash-md", *sweep)
    assert result.exit_code == 0, result.output
    one = call("nash-md", *NASH, "--tau", "0.5", "--seed", "3", "--out", tmp_path / "one.h5")
    assert one.exit_code == 0, one.output
    assert fingerprint(read_run(folder / "tau=0.5.h5")) == fingerprint(
        read_run(tmp_path / "one.h5")
    )
    index = json.loads((folder / "index.json").read_text())
    assert [(e["log"], e["status"], e["point"]) for e in index["runs"]] == [
        ("tau=0.1.h5", "finished", {"tau": 0.1}),
        ("tau=0.5.h5", "finished", {"tau": 0.5}),
    ]
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    summary = index["runs"][1]["summary"]["contexts"][0]
    assert float(rows[1]["summary.contexts.0.exploitability"]) == summary["exploitability"]
    assert read_run(folder / "tau=0.5.h5").meta["threads"] == 1

    before = content(folder)
    again = call("nash-md", *sweep, "--resume", "--json")
    assert again.exit_code == 0, again.output
    assert {name: each for name, each in content(folder).items() if name.endswith(".h5")} == {
        name: each for name, each in before.items() if name.endswith(".h5")
    }
    assert [run["point"] for run in json.loads(again.stdout)["runs"]] == [
        {"tau": 0.1},
        {"tau": 0.5},
    ]
    assert refused(call("nash-md", *sweep), "tau=0.1.h5 exists", "--resume")
    assert refused(
        call("nash-md", *sweep, "--resume", "--set", "log_every=7"), "log_every=", "not 7"
    )
    (folder / "index.json").write_text("[]")
    assert refused(call("nash-md", *sweep, "--resume"), "no index of a sweep")


def test_at_most_so_many_at_a_time_and_the_threads(tmp_path: Path) -> None:
    text = f"""
import os, pathlib, time
here = pathlib.Path({str(tmp_path)!r}) / str(os.getpid())
here.touch(); time.sleep(0.2)
n = len(list(here.parent.glob("[0-9]*[0-9]"))); here.unlink()
assert os.environ["OMP_NUM_THREADS"] == "3"
raise SystemExit(f"error: {{n}} at a time" if n > 2 else "error: fine")
"""
    many = jobs(tmp_path / "out", *[text] * 5)
    with pytest.raises(RunFailed, match="5 of 5 runs failed"):
        run_jobs(many, tmp_path / "out", "test", Processes(3), parallel=2)
    assert [job.message for job in many] == ["fine"] * 5


def test_how_runs_fail(tmp_path: Path) -> None:
    bad = "import sys; print('error: no such data', file=sys.stderr); sys.exit(2)"
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(InputError, match=r"^0\.h5: no such data \(2 of 2 runs failed"):
        run_jobs(jobs(tmp_path, bad, bad), tmp_path, "test", Processes(1), parallel=2)
    with pytest.raises(RunFailed, match="exit code -9"):
        run_jobs(jobs(tmp_path, killed, bad), tmp_path, "test", Processes(1), parallel=1)
    full = jobs(tmp_path, "raise SystemExit(74)", "raise SystemExit(0)")
    with pytest.raises(StorageError, match=r"0\.h5"):
        run_jobs(full, tmp_path, "test", Processes(1), parallel=1)
    assert full[1].status == "waiting"
    index = json.loads((tmp_path / "index.json").read_text())
    assert [entry["status"] for entry in index["runs"]] == ["failed", "waiting"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_children(tmp_path: Path, number: int) -> None:
    """One child stops in good order, one only when a second Ctrl-C kills it."""
    say = f"import pathlib, os, time, signal; here = pathlib.Path({str(tmp_path)!r})\n"
    wait = "(here / str(os.getpid())).touch(); time.sleep(60)"
    good = say + "signal.signal(signal.SIGTERM, lambda *_: os._exit(75))\n" + wait
    deaf = say + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + wait
    many = jobs(tmp_path / "out", good, deaf, good)
    parent = os.getpid()
    watch = f"""
import os, pathlib, signal, time
here = pathlib.Path({str(tmp_path)!r})
while len(list(here.glob("[0-9]*"))) < 2: time.sleep(0.05)
os.kill({parent}, {int(number)}); time.sleep(0.5)
os.kill({parent}, signal.SIGTERM); time.sleep(0.5)
alive = [p for p in here.glob("[0-9]*") if pathlib.Path("/proc", p.name).exists()]
os.kill({parent}, signal.SIGINT)
assert len(alive) == 1
"""
    before = signal.getsignal(signal.SIGINT)
    with subprocess.Popen(python(watch)) as watcher:
        with pytest.raises(Stopped, match="0 of 3 runs are finished; go on with --resume --out"):
            run_jobs(many, tmp_path / "out", "test", Processes(1), parallel=2)
        assert watcher.wait() == 0
    assert [job.status for job in many] == ["stopped", "stopped", "waiting"]
    assert [job.exit_code for job in many] == [75, -signal.SIGKILL, None]
    for path in tmp_path.glob("[0-9]*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_ctrl_c_in_a_real_sweep_costs_nothing(tmp_path: Path) -> None:
    """Stopped with exit code 75 and continued: the rows equal those of uninterrupted runs."""
    game = ["--game", "rock-paper-scissors", "--set", "votes=5", "--set", "log_every=500"]
    command = [
        "nash-md",
        *game,
        "--iterations",
        "4000",
        "--seeds",
        "0..1",
        "--quiet",
        "--jobs",
        "2",
    ]
    whole = [*command, "--out", str(tmp_path / "whole")]
    cut = [*command, "--out", str(tmp_path / "cut"), "--resume"]
    assert subprocess.run([sys.executable, "cli.py", *whole], cwd=ROOT).returncode == 0
    with subprocess.Popen([sys.executable, "cli.py", *cut], cwd=ROOT) as sweep:
        while len(list((tmp_path / "cut").glob("*.h5"))) < 2:
            time.sleep(0.02)
        sweep.send_signal(signal.SIGINT)
    assert sweep.returncode == 75
    index = json.loads((tmp_path / "cut" / "index.json").read_text())
    assert "stopped" in {entry["status"] for entry in index["runs"]}
    assert subprocess.run([sys.executable, "cli.py", *cut], cwd=ROOT).returncode == 0
    for name in ("seed=0.h5", "seed=1.h5"):
        assert same_as(tmp_path / "cut" / name, fingerprint(read_run(tmp_path / "whole" / name)))
