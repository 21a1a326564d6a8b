"""Damaged checkpoints: an older one is used, or the run starts again; never a wrong one."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.session import checkpoint_folder
from tests.bad_input.checkpoints import damage, foreign
from tests.bad_input.refusing import contents, given
from tests.bioplaus import idx_files
from tests.command_line import call
from tests.resuming import command, end_at, fingerprint, same_as

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
QUICK, ALL = 2, 24
MODEL = ["nash-md", "--model", "tiny:a,b,<end>", "--prompts", "prompts.jsonl", "--iterations", 4,
         "--preference", "tests.trainers:longer_wins", "--set", "generation.max_new_tokens=2",
         "--set", "batch_size=2"]  # fmt: skip
COMMANDS: dict[str, list[object]] = {
    "eqprop-run": ["eqprop-run", "--dataset", "images", "--epochs", 2, "--hidden", 4,
                   "--set", "batch_size=20"],
    "nash-md": ["nash-md", "--game", "rock-paper-scissors", "--iterations", 4],
    "preference-train": ["preference-train", "--pairs", "pairs.jsonl", "--epochs", 2,
                         "--set", "batch_size=3", "--out", "run"],
    "nash-md model": MODEL,
    "warm-start": ["warm-start", "--model", "tiny:a,b,<end>", "--examples", "examples.jsonl",
                   "--epochs", 4],
}  # fmt: skip
LOG = {"preference-train": "--log"}


def line(name: str) -> list[object]:
    """The command that starts a run or continues it."""
    return [*COMMANDS[name], LOG.get(name, "--out"), "run.h5", "--resume", "--quiet"]


@pytest.fixture(scope="module", params=COMMANDS)
def stopped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, str]]:
    """A run that was killed after two checkpoints, and what it would have left."""
    name: str = request.param
    if "model" in name or name == "warm-start":
        pytest.importorskip("transformers")
    models = pytest.importorskip("tests.bad_input.models")
    folder = tmp_path_factory.mktemp("stopped")
    models.texts(folder)
    rng = np.random.default_rng(0)
    content = {}
    for role, count in (("train", 40), ("test", 10)):
        content[f"{role} images"] = rng.integers(0, 256, (count, 4, 4)).astype(np.uint8)
        content[f"{role} labels"] = (np.arange(count) % 3).astype(np.uint8)
    idx_files.write(folder / "images", content)
    whole = tmp_path_factory.mktemp("whole") / "folder"
    shutil.copytree(folder, whole)
    here = Path.cwd()
    try:
        os.chdir(whole)
        assert call(str(COMMANDS[name][0]), *line(name)[1:]).exit_code == 0
        os.chdir(folder)
        args = [*line(name), "--checkpoint-every", 1]
        assert command(args, end_at(3, signal.SIGKILL, saved=True)) == -signal.SIGKILL
    finally:
        os.chdir(here)
    assert len(checkpoints(checkpoint_folder(folder / "run.h5"))) == 2
    return name, folder, fingerprint(read_run(whole / "run.h5"))


@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_what_is_damaged_is_named_and_not_used(
    count: int,
    stopped: tuple[str, Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If one or both are spoilt, the rows, the weights and the model are those of a whole run."""
    name, folder, reference = stopped
    for seed in range(count):
        rng = random.Random(f"{name} {seed}")
        here = tmp_path / str(seed)
        shutil.copytree(folder, here, symlinks=True)
        monkeypatch.chdir(here)
        found = checkpoints(checkpoint_folder(here / "run.h5"))
        spoilt = found if seed % 2 else found[:1]
        for each in spoilt:
            damage(rng, each)
        given["checkpoint"] += 1
        result = call(str(line(name)[0]), *line(name)[1:])
        said = result.stderr.strip().splitlines()
        assert result.exit_code == 0, (seed, result.output)
        assert len(said) == len(spoilt), (seed, said)
        assert all(each.startswith("warning: ") for each in said)
        assert same_as(here / "run.h5", reference, foreign=True), seed
        assert not (here / "executed").exists()


@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_what_is_of_another_run_is_refused_in_a_line(
    count: int,
    stopped: tuple[str, Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is signed and can be loaded. Either it fits the run, or one line says that it does not."""
    name, folder, _ = stopped
    codes = set()
    for seed in range(count):
        rng = random.Random(f"{name} {seed}")
        here = tmp_path / str(seed)
        shutil.copytree(folder, here)
        monkeypatch.chdir(here)
        for each in checkpoints(checkpoint_folder(here / "run.h5")):
            foreign(rng, each)
        before = {n for n, _ in contents(here)}
        given["checkpoint"] += 1
        result = call(str(line(name)[0]), *line(name)[1:])
        said = [s for s in result.stderr.strip().splitlines() if not s.startswith("warning: ")]
        assert result.exit_code in (0, 1, 2), (seed, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            seed,
            repr(result.exception),
        )
        assert len(said) == (0 if result.exit_code == 0 else 1), (seed, said)
        if result.exit_code:
            assert {n for n, _ in contents(here)} <= before
            assert read_run("run.h5").sealed
        codes.add(result.exit_code)
    assert count == QUICK or 2 in codes
