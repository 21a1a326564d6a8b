"""Every training command goes on bit for bit, from any step, however it ended."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.runlog.provenance import provenance
from bridge.session import checkpoint_folder
from tests.bioplaus import idx_files
from tests.command_line import call, refused
from tests.resuming import command, end_at, fingerprint, same_as

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

# Everything that has a state: momentum, a schedule, random nudges, a short last batch, checks.
EQPROP = ["--epochs", 2, "--hidden", 8, "--set", "batch_size=9", "--nudging", "random-sign"]
EQPROP += ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.003"]
EQPROP += ["--set", "network.activation=tanh", "--set", "network.coordinates=membrane"]
EQPROP += ["--check-gradients-every", 5, "--seed", 3]
# Noisy votes, a method that remembers, a temperature that falls, rows that are not every step's.
NASH = ["--game", "rock-paper-scissors", "--algorithm", "nash-ema", "--iterations", 10]
NASH += ["--set", "votes=5", "--set", "tau_start=0.5", "--set", "log_every=3", "--seed", 3]
STEPS = {"eqprop-run": 2 * 5, "nash-md": 10}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """A small run of each training command."""
    rng = np.random.default_rng(0)
    content = {}
    for role, count in (("train", 40), ("test", 10)):
        content[f"{role} images"] = rng.integers(0, 256, (count, 4, 4)).astype(np.uint8)
        content[f"{role} labels"] = (np.arange(count) % 3).astype(np.uint8)
    images = idx_files.write(tmp_path_factory.mktemp("data") / "images", content)
    # Forks inherit what is done once: git asked, and what torch's optimizers import late.
    provenance()
    importlib.import_module("bioplaus.training")
    importlib.import_module("nlhf.training")
    importlib.import_module("torch._dynamo")
    return {"eqprop-run": ["--dataset", images, *EQPROP], "nash-md": NASH}


@pytest.fixture(scope="module")
def references(
    tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, list[object]]
) -> dict[str, dict[str, str]]:
    """What uninterrupted runs leave."""
    folder, found = tmp_path_factory.mktemp("whole"), {}
    for name, args in arguments.items():
        path = folder / f"{name}.h5"
        assert command([name, *args, "--quiet", "--out", path]) == 0
        found[name] = fingerprint(read_run(path))
    return found


def interrupted(
    name: str, args: Sequence[object], path: Path, step: int, number: int, saved: bool
) -> None:
    """Run until a step, end it there by a signal, and go on."""
    every = 1 if saved else 4
    run = [name, *args, "--quiet", "--out", path, "--checkpoint-every", every]
    code = command(run, end_at(step, number, saved))
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    if number != signal.SIGKILL:
        assert read_run(path).status == "stopped"
        assert read_run(path).sealed
    assert command([name, "--quiet", "--resume", "--out", path]) == 0


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("number", "saved"),
    [
        (signal.SIGKILL, False),
        (signal.SIGTERM, True),
        pytest.param(signal.SIGKILL, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_goes_on_bit_for_bit_from_every_step(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    name: str,
    number: int,
    saved: bool,
) -> None:
    # A signal that is not deadly saves a checkpoint wherever it comes.
    every = 1 if number == signal.SIGKILL else 4
    for step in range(1, STEPS[name] + 1, every):
        path = tmp_path / f"{step}.h5"
        interrupted(name, arguments[name], path, step, number, saved)
        assert same_as(path, references[name])


@pytest.mark.parametrize("name", STEPS)
def test_goes_on_after_many_ends_and_past_damage(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    path = tmp_path / "run.h5"
    args = [name, *arguments[name], "--quiet", "--out", path, "--checkpoint-every", 2, "--resume"]
    assert command(args, end_at(5, signal.SIGKILL, False)) == -signal.SIGKILL
    assert call("runs", "recover", path).exit_code == 0
    assert command(args, end_at(9, signal.SIGKILL, True)) == -signal.SIGKILL
    newest, older = checkpoints(checkpoint_folder(path))
    assert (newest.name, older.name) == ("step-000000000008", "step-000000000006")
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    copy = tmp_path / "copy.h5"
    shutil.copy(path, copy)
    shutil.copytree(checkpoint_folder(path), checkpoint_folder(copy))
    result = call(*args[:1], "--quiet", "--resume", "--out", copy)
    assert result.exit_code == 0
    assert "tensors.safetensors is damaged; an older one is used" in result.stderr
    assert same_as(copy, references[name])
    assert command(args, end_at(10, signal.SIGTERM, True)) == 75
    assert command(args) == 0
    assert same_as(path, references[name])
    # A run that has finished stays as it is, and says again what it said.
    before = path.read_bytes()
    said = json.loads(call(*args, "--json").stdout)
    assert said["log"] == str(path)
    assert path.read_bytes() == before


def test_what_would_give_other_numbers_is_refused(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    args = [*arguments["eqprop-run"], "--quiet", "--out", path]
    assert command(["eqprop-run", *args], end_at(5, signal.SIGTERM, True)) == 75
    before = path.read_bytes()
    for more, words in (
        (["--threads", "2"], ["threads=1", "not 2", "--threads"]),
        (["--seed", "4"], ["seed=3", "not 4"]),
        (["--epochs", "9"], ["epochs=2", "not 9"]),
        (["--set", "optimizer.momentum=0.5"], ["optimizer.momentum=0.9", "not 0.5"]),
        (["--set", "optimizer.momentun=0.5"], ["momentun", "optimizer.momentum"]),
        (["--overwrite"], ["--overwrite", "--resume"]),
    ):
        result = call("eqprop-run", "--resume", "--out", path, "--quiet", *more)
        assert refused(result, *words)
    assert refused(call("eqprop-run", "--resume"), "--out")
    assert path.read_bytes() == before
    # With the same values given again it goes on.
    assert command(["eqprop-run", "--resume", *args]) == 0


def test_a_log_that_is_written_is_not_taken_over(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    args = ["eqprop-run", *arguments["eqprop-run"], "--quiet", "--out", path]

    def meddle() -> None:
        original = fingerprint  # keeps the name in the child

        def at_step(self: object, step: int, snapshot: object) -> None:
            if step == 3:
                code = command(["eqprop-run", "--resume", "--quiet", "--out", path])
                os._exit(42 if code == 2 and original else 43)

        from bridge.session import Session

        Session.after_step = at_step  # type: ignore[method-assign]

    assert command(args, meddle) == 42


def test_a_folder_of_another_runs_checkpoints_is_ignored(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    args = ["eqprop-run", *arguments["eqprop-run"], "--quiet"]
    assert command([*args, "--out", a], end_at(5, signal.SIGTERM, True)) == 75
    assert command([*args, "--out", b], end_at(7, signal.SIGKILL, False)) == -signal.SIGKILL
    shutil.rmtree(checkpoint_folder(b), ignore_errors=True)
    shutil.copytree(checkpoint_folder(a), checkpoint_folder(b))
    assert command([*args, "--resume", "--out", b]) == 0
    assert same_as(b, references["eqprop-run"])
