"""Data on the command line: inspected, loaded by users' code, read by a custom reader."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.runlog import read_run
from tests.bioplaus import data_files as made
from tests.command_line import call, refused

ROOT = Path(__file__).parents[1]
LOADER = """
import numpy as np

def load():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), np.arange(40) % 3, rng.normal(size=(9, 3)), np.arange(9) % 3

def fail():
    return open("no such file")

def half():
    x, y, _, _ = load()
    return x, y

def vectors():
    x, _, xt, _ = load()
    return (x, x[:, :2]), (xt, xt[:, :2])

def nothing():
    pass

def wrong():
    return [[1.0], [2.0]], [0, 1, 1]
"""
READER = """
import numpy as np
from bioplaus.data import AbstractReader

class Reader(AbstractReader):
    name = "lines"
    form = "lines of numbers (*.lines), the last one the class"

    def recognises(self, place):
        return place.suffix == ".lines"

    def read(self, place, split):
        rows = np.loadtxt(place)
        return rows[:, :-1], rows[:, -1].astype(int)
"""
SMALL = ["--epochs", 1, "--hidden", 4, "--quiet"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a loader and a reader in which the test works."""
    (tmp_path / "my_data.py").write_text(LOADER)
    (tmp_path / "my_reader.py").write_text(READER)
    rows = "\n".join(f"{k / 20} {(k * 7 % 20) / 20} {k % 2}" for k in range(20))
    (tmp_path / "mine.lines").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("spec", ["my_data:load", "my_data.py:load"])
def test_a_loader_trains_and_its_file_is_in_the_log(here: Path, spec: str) -> None:
    result = call("eqprop-run", "--dataset", spec, *SMALL, "--out", "run.h5")
    assert result.exit_code == 0, result.output
    (event,) = [each for each in read_run(here / "run.h5").events if each["kind"] == "code"]
    digest = hashlib.sha256((here / "my_data.py").read_bytes()).hexdigest()
    assert (event["what"], event["spec"], event["sha256"]) == ("dataset", spec, digest)
    assert Path(event["file"]) == (here / "my_data.py").resolve()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fail", "my_data.py:9 in fail: FileNotFoundError"),
        ("half", "half has no test set: --set data.holdout=0.1"),
        ("nothing", "nothing gave NoneType: return a Dataset"),
        ("wrong", "x_train holds 2 rows and y_train 3 labels"),
        ("laod", "did you mean 'load'?"),
    ],
)
def test_a_loader_that_fails_is_one_line(here: Path, name: str, words: str) -> None:
    assert refused(call("eqprop-run", "--dataset", f"my_data:{name}", *SMALL), words)


def test_target_vectors_train(here: Path) -> None:
    args = ["--dataset", "my_data:vectors", *SMALL, "--set", "estimator.cost=squared-error"]
    assert call("eqprop-run", *args, "--out", "run.h5").exit_code == 0
    table = read_run(here / "run.h5").table("epochs")
    assert (table["cost"] > 0).all()
    assert (table["test_error"] != table["test_error"]).all()


def test_half_a_loader_and_a_holdout_train(here: Path) -> None:
    args = ["--dataset", "my_data:half", *SMALL, "--set", "data.holdout=0.25"]
    assert call("eqprop-run", *args, "--out", "run.h5").exit_code == 0


@pytest.mark.parametrize("form", ["cifar", "images", "npz", "emnist"])
def test_every_form_trains_end_to_end(here: Path, form: str) -> None:
    more: list[str] = []
    if form == "cifar":
        made.cifar(here / "root" / "cifar-10-batches-bin")
    elif form == "images":
        made.image_folder(here / "root")
    elif form == "npz":
        np.savez(here / "root", x=made.pictures(12), y=made.labels(12))
        (here / "root.npz").rename(here / "root")
        more = ["--set", "data.holdout=0.25"]
    else:
        for split in ("letters", "digits"):
            pattern = f"emnist-{split}-" + "{}-{}-idx{}-ubyte"
            made.idx(here / "root", pattern, first=int(split == "letters"))
        more = ["--set", "data.split=letters"]
    result = call("eqprop-run", "--dataset", "root", *SMALL, *more, "--out", "run.h5")
    assert result.exit_code == 0, result.output
    assert len(read_run(here / "run.h5").table("epochs")["step"]) == 1


def test_data_check_tells_what_would_be_read(here: Path) -> None:
    made.idx(here / "root" / "MNIST" / "raw", sides=(("train", 12),))
    result = call("data", "check", "root", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["train"], told["test"], told["shape"]) == (12, 0, [4, 5])
    assert told["warnings"][0].startswith("has no test set: --set data.holdout=0.1")
    assert told["facts"]["files"] == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    shown = call("data", "check", "root", "--set", "data.holdout=0.25")
    assert "3 of the training set, at random (seed 0)" in shown.stdout
    assert "root/MNIST/raw" in shown.stdout
    code = json.loads(call("data", "check", "my_data.py:load", "--json").stdout)["code"]
    assert [each["spec"] for each in code] == ["my_data.py:load"]
    assert not list(here.glob("**/*.h5"))


def test_data_check_refuses_in_one_line(here: Path) -> None:
    assert refused(call("data", "check", "nowhere"), "no data set 'nowhere'")
    assert refused(call("data", "check", "my_data:fail"), "my_data.py:9 in fail")
    assert refused(call("data", "check", "mnist", "--set", "data.holdout=0.1"), "leave holdout out")
    assert refused(call("data", "check", "mnist", "--set", "data.splt=x"), "data.split")
    assert refused(
        call("data", "check", "mnist", "--set", "data.holdout_seed=1"), "without holdout"
    )


def test_a_reader_by_name_reads_a_file(here: Path) -> None:
    wishes = ["--set", "data.reader=my_reader.py:Reader", "--set", "data.holdout=0.2"]
    result = call("eqprop-run", "--dataset", "mine.lines", *SMALL, *wishes, "--out", "run.h5")
    assert result.exit_code == 0, result.output
    kinds = [e["what"] for e in read_run(here / "run.h5").events if e["kind"] == "code"]
    assert kinds == ["reader"]
    unknown = call("data", "check", "mine.lines", "--set", "data.reader=idxx")
    assert refused(unknown, "reader='idxx' is unknown", "did you mean idx?")


def call_in(here: Path, *args: str) -> dict[str, Any]:
    """The output of a process in which the packages of this folder are installed."""
    env = os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(ROOT / "cli.py"), *args]
    done = subprocess.run(line, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_package_adds_a_reader(here: Path) -> None:
    """One file, and the package's own entry point."""
    info = here / "lines_of_numbers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-of-numbers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bioplaus.readers]\nlines = my_reader:Reader\n")
    assert call_in(here, "data", "check", "mine.lines", "--json")["train"] == 20
    by_entry = call_in(here, "data", "check", "mine.lines", "--set", "data.reader=lines", "--json")
    assert by_entry["code"][0]["file"].endswith("my_reader.py")


def test_a_broken_package_stops_only_what_needs_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = here / "broken_readers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-readers\nVersion: 1.0\n")
    entries = "[bioplaus.readers]\nlines = my_reader:Nothing\ngone = nowhere_at_all:Reader\n"
    (info / "entry_points.txt").write_text(f"{entries}int = builtins:int\n")
    monkeypatch.syspath_prepend(here)
    made.idx(here / "root", sides=(("train", 12), ("t10k", 4)))
    for source in ("root", "my_data.py:load"):
        done = call("data", "check", source, "--json")
        assert done.exit_code == 0, done.output
    chosen = ["--set", "data.reader=my_reader.py:Reader", "--set", "data.holdout=0.2"]
    assert call("data", "check", "mine.lines", *chosen).exit_code == 0
    # told where nothing else reads the file, each in a few words on the one line
    nothing = call("data", "check", "mine.lines")
    assert refused(nothing, "mine.lines is of no known format", "the entry point lines of")
    assert refused(nothing, "the entry point gone of", "nowhere_at_all", "is no AbstractReader")
    # and where it is named
    for name, words in (("lines", "has no attribute 'Nothing'"), ("gone", "nowhere_at_all")):
        said = call("data", "check", "root", "--set", f"data.reader={name}")
        assert refused(said, f"the entry point {name} of bioplaus.readers", words)
    assert refused(
        call("data", "check", "root", "--set", "data.reader=gonee"), "did you mean gone?"
    )
