"""--hidden: all ways of writing several numbers give the same network."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge.runlog import read_run
from tests.command_line import call, refused

WRITTEN = [
    ["--hidden", "4,3"],
    ["--hidden", "4", "3"],
    ["--hidden", "4", "--hidden", "3"],
    ["--hidden=4,3"],
    ["--hidden=4", "3"],
    ["--hidden=4", "--hidden=3"],
    ["--hidden", "4,", "3"],
    ["--hidden", "4, 3"],
]


def config(command: str, *words: object) -> dict[str, Any]:
    done = call(command, *words, "--print-config")
    assert done.exit_code == 0, done.output
    return tomllib.loads(done.stdout)


@pytest.mark.parametrize("command", ["eqprop-run", "eqprop-nash"])
@pytest.mark.parametrize("written", WRITTEN)
def test_every_way_of_writing_gives_the_same(command: str, written: list[str]) -> None:
    assert config(command, *written)["network"]["hidden"] == [4, 3]


def test_what_follows_another_option_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 4\n")
    found = config("eqprop-run", tmp_path / "mine.toml", "--hidden", "5,6", "--epochs", 7)
    assert (found["network"]["hidden"], found["epochs"]) == ([5, 6], 7)
    assert config("eqprop-run", "--hidden", 5, tmp_path / "mine.toml")["epochs"] == 4


@pytest.mark.parametrize("written", WRITTEN[:2])
def test_gradcheck_keeps_its_inputs_and_outputs(tmp_path: Path, written: list[str]) -> None:
    log = tmp_path / "g.h5"
    assert call("gradcheck", *written, "--quiet", "--out", log).exit_code == 0
    found = read_run(log).config
    assert (found["sizes"], found["network"]["hidden"]) == ([20, 4, 3, 10], [4, 3])


def test_the_sizes_of_the_data_stand_around_it(tmp_path: Path) -> None:
    few = ["--set", "data.train_size=20", "--set", "data.test_size=10", "--epochs", 1, "--quiet"]
    log = tmp_path / "e.h5"
    assert call("eqprop-run", "--hidden", "4,3", *few, "--out", log).exit_code == 0
    weights = read_run(log).weights()[1]
    assert weights["forward.1"].shape == (4, 784)
    assert [len(weights[f"bias.{k}"]) for k in (1, 2, 3)] == [4, 3, 10]


def test_mistakes_are_one_line() -> None:
    assert refused(call("eqprop-run", "--hidden", "4,x"), "'4,x'", "512,256 or 512 256")
    assert refused(call("eqprop-run", "--hidden", "4,,3"), "'4,,3'", "512,256")
    assert refused(call("eqprop-run", "--hidden", "4,-3"), "--hidden -3: must be >= 1")
    assert refused(call("gradcheck", "--hidden", "4", "--from-run", "a.h5"), "--hidden and --from")
    assert refused(call("gradcheck", "--hidden", "4", "--sizes", "3,5,2"), "give one of the two")
