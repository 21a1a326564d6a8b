"""A full disk ends every command with 74 and one line, and leaves no incomplete file."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the limit on file sizes is POSIX's")

from bridge.resuming import checkpoint_folder, find_start
from bridge.runlog import read_run, recover
from tests.bioplaus import idx_files
from tests.bridge.filling import can_mount, small_disk, take_room
from tests.command_line import call

pytestmark = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")

ROOT = Path(__file__).parents[1]
ROOMS = (0, 20_000, 60_000, 130_000, 160_000, 200_000, 300_000, 500_000, 900_000, 7_000_000)
MODEL = ["nash-md", "--model", "tiny:a,b,c", "--preference", "tests.trainers:longer_wins"]
MODEL += ["--iterations", "2", "--set", "generation.max_new_tokens=2", "--overwrite"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("small")) as place:
        yield place


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> dict[str, list[object]]:
    """Commands whose log, model, texts or figures go to the small disk."""
    folder = tmp_path_factory.mktemp("large")
    pairs, prompts, examples = (
        folder / f"{name}.jsonl" for name in ("pairs", "prompts", "examples")
    )
    examples.write_text("".join(f'{{"prompt": "{x}", "completion": "b"}}\n' for x in "abcab"))
    asked = [
        {"prompt": f"why {i}", "chosen": "good", "rejected": f"bad {i % 4}"} for i in range(39)
    ]
    pairs.write_text("".join(json.dumps(each) + "\n" for each in asked))
    prompts.write_text('{"prompt": "a"}\n{"prompt": "b a"}\n')
    images = idx_files.noise(folder / "images")
    eqprop = ["eqprop-run", "--dataset", images, "--epochs", 2, "--hidden", 8]
    learn = ["preference-train", "--pairs", pairs, "--epochs", 2, "--checkpoint-every", 1]
    learn += ["--set", "hidden=16"]
    log, saved = disk / "run.h5", disk / "saved"
    finished = folder / "finished.h5"
    assert call(*eqprop, "--out", finished).exit_code == 0
    nash = ["nash-md", "--game", "rock-paper-scissors", "--iterations", 10, "--out", log]
    return {
        "eqprop-run": [*eqprop, "--checkpoint-every", 1, "--out", log],
        "nash-md": [*nash, "--checkpoint-every", 1],
        "gradcheck": ["gradcheck", "--sizes", "4,5,3", "--out", log],
        "preference-train": [*learn, "--out", saved, "--log", log],
        "preference-train, model": [
            *learn, "--out", saved, "--log", folder / "preference.h5", "--overwrite",
        ],
        "nash-md, model": [
            *MODEL, "--prompts", prompts, "--out", folder / "model.h5", "--save", saved,
        ],
        "warm-start": [
            "warm-start", "--model", "tiny:a,b,c", "--examples", examples, "--epochs", 1,
            "--out", folder / "warm.h5", "--save", saved, "--overwrite",
        ],
        "corpus": ["corpus", "docstrings", "--out", saved],
        "sweep": ["nash-md", *nash[1:5], "--seeds", "0..1", "--jobs", 1, "--out", saved],
        "compare": ["compare", finished, finished, "--png", saved],
        "runs": ["runs", "export", finished, "--format", "csv", "--out", saved],
        "export": ["export", finished, "--nir", disk / "network.nir"],
    }  # fmt: skip


NAMES = ["eqprop-run", "nash-md", "gradcheck", "preference-train", "preference-train, model"]
NAMES += ["nash-md, model", "warm-start", "runs", "export"]
LONG = ("corpus", "compare", "sweep")
NEEDS = dict.fromkeys(("nash-md, model", "warm-start"), "transformers")
NEEDS |= {"export": "nir", "compare": "matplotlib"}


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(n, marks=pytest.mark.slow) for n in LONG)])
def test_a_full_disk_ends_a_command_with_one_line(
    disk: Path, commands: dict[str, list[object]], name: str
) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    codes = []
    for room in (0, 130_000, ROOMS[-1]) if name in LONG else ROOMS:
        take_room(disk, room)
        result = call(*map(str, commands[name]))
        (disk / "other").unlink()
        codes.append(result.exit_code)
        if result.exit_code:
            assert result.exit_code == 74, (room, result.output, result.exception)
            # Beside it, only what was read and how far the command was.
            lines = [line for line in result.stderr.splitlines() if "/s, " not in line]
            lines = [line for line in lines if not line.startswith("data: ")]
            assert len(lines) == 1
            assert lines[0].startswith("error: ")
            assert "No space left on device" in lines[0]
            look(disk, name, commands[name])
        clear(disk)
    assert codes[0] == 74
    assert codes[-1] == 0


def look(disk: Path, name: str, command: list[object]) -> None:
    """What a command has left is complete, and a run can be resumed."""
    log = disk / "run.h5"
    legal = {"saved"} if name == "sweep" else {log.name, checkpoint_folder(log).name}
    assert {each.name for each in disk.iterdir()} <= legal
    if not log.exists():
        return
    warnings: list[str] = []
    find_start(read_run(log), warn=warnings.append)
    assert warnings == []
    recover(log)
    assert read_run(log).sealed
    if name != "gradcheck":
        result = call(*map(str, command), "--resume")
        assert result.exit_code == 0, result.output
        assert read_run(log).status == "finished"
        assert not checkpoint_folder(log).exists()


def clear(disk: Path) -> None:
    for each in disk.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


@pytest.mark.slow
def test_the_program_ends_with_74_when_all_of_it_ends(disk: Path) -> None:
    take_room(disk, 130_000)
    command = [sys.executable, "cli.py", "nash-md", "--game", "rock-paper-scissors", "--quiet"]
    done = subprocess.run([*command, "--out", disk / "run.h5"], cwd=ROOT, capture_output=True)
    clear(disk)
    assert (done.returncode, done.stdout) == (74, b"")
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
