"""A run that is extended equals a run that was planned with the new length."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge import session
from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.runlog.provenance import provenance
from bridge.session import checkpoint_folder
from tests.bioplaus import idx_files
from tests.command_line import call, refused
from tests.resuming import command, end_at, fingerprint, same_as

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

LENGTH = {"eqprop-run": "--epochs", "preference-train": "--epochs", "warm-start": "--epochs"}
EXACT = ["--algorithm", "nash-ema", "--set", "baseline=learned", "--set", "measure_exact=true"]
# Rows that are not every step's, so that the last step's row is there because it is the last;
# the states of optimizers and generators; a warm-up, which counts from the beginning.
EQPROP = ["--hidden", 8, "--set", "batch_size=9", "--nudging", "random-sign", "--seed", 3]
EQPROP += ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.003"]
EQPROP += ["--set", "network.activation=tanh", "--set", "network.coordinates=membrane"]
EQPROP += ["--set", "optimizer.schedule=constant", "--set", "optimizer.warmup_steps=3"]
EQPROP += ["--set", "log_every=3"]
NASH = ["--game", "rock-paper-scissors", "--algorithm", "nash-ema", "--seed", 3]
NASH += ["--set", "votes=5", "--set", "log_every=3"]
PREFERENCE = ["--set", "batch_size=6", "--set", "log_every=3", "--seed", 3]
PREFERENCE += ["--set", "schedule=constant", "--set", "warmup=0"]
MODEL = ["--model", "tiny:a,b,c", "--preference", "tests.trainers:longer_wins", "--seed", 3]
MODEL += ["--set", "generation.max_new_tokens=2", "--set", "batch_size=3"]
MODEL += ["--set", "log_every=3", *EXACT]
WARM = ["--model", "tiny:a,b,c,<end>", "--set", "holdout=0.3", "--seed", 3]
WARM += ["--set", "batch_size=1", "--set", "accumulation=2", "--set", "log_every=3"]
NAMES = ["eqprop-run", "nash-md", "preference-train", "nash-md model", "warm-start"]


def line(name: str, path: Path) -> list[object]:
    """A command, and where it writes; a model goes into a folder beside the log."""
    if name == "preference-train":
        return [name, "--out", path.with_suffix(""), "--log", path, "--quiet"]
    return [name.split()[0], "--out", path, "--quiet"]


def longer(name: str, path: Path, times: int, *more: object) -> list[object]:
    """A command of one, two or more times the shortest length."""
    option, n = ("--epochs", times) if name in LENGTH else ("--iterations", 5 * times)
    return [*line(name, path), option, n, *more]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """A small run of each training command."""
    folder = tmp_path_factory.mktemp("data")
    images = idx_files.noise(folder / "images")
    # Forks inherit what is done once: git asked, and what torch's optimizers import late.
    provenance()
    importlib.import_module("bioplaus.training")
    importlib.import_module("nlhf.training")
    importlib.import_module("torch._dynamo")
    made = {"eqprop-run": ["--dataset", images, *EQPROP], "nash-md": NASH}
    asked = [{"prompt": f"why {i}", "chosen": "good " * (i % 3 + 1), "rejected": f"bad {i % 4}"}
             for i in range(39)]  # fmt: skip
    said = [{"prompt": p, "completion": c} for p in ("a", "b", "c", "a b") for c in "abc"]
    files = {"pairs": asked, "examples": said}
    files["prompts"] = [{"prompt": x} for x in ("a", "b a", "c", "a a b")]
    for name, rows in files.items():
        text = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"{name}.jsonl").write_text(text)
    made["preference-train"] = ["--pairs", folder / "pairs.jsonl", *PREFERENCE]
    if importlib.util.find_spec("transformers"):
        importlib.import_module("transformers.models.llama.modeling_llama")
        made["nash-md model"] = ["--prompts", folder / "prompts.jsonl", *MODEL]
        made["warm-start"] = ["--examples", folder / "examples.jsonl", *WARM]
    return made


def told_no(args: list[object]) -> str:
    """The one line with which a command refuses."""
    result = call(str(args[0]), *args[1:])
    assert refused(result)
    return result.stderr


def extensions(path: Path) -> list[tuple[Any, ...]]:
    keys = ("key", "was", "now", "step", "rescheduled")
    found = [event for event in read_run(path).events if event["kind"] == "extended"]
    return [tuple(event[key] for key in keys) for event in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_run_goes_on_as_one_that_was_planned_longer(
    arguments: dict[str, list[object]], tmp_path: Path, name: str
) -> None:
    if name not in arguments:
        pytest.skip("transformers is not installed")
    args = arguments[name]
    path, whole = tmp_path / "run.h5", tmp_path / "whole" / "run.h5"
    assert command([*longer(name, whole, 2), *args]) == 0
    assert command([*longer(name, path, 1), *args]) == 0
    assert not checkpoint_folder(path).exists()
    assert command(longer(name, path, 2, "--resume")) == 0
    assert same_as(path, fingerprint(read_run(whole)))
    run, unit = read_run(path), 1 if name in LENGTH else 5
    done = run.table("epochs")["step"][0] if name in ("eqprop-run", "preference-train") else 5
    if name == "warm-start":
        done = run.table("held_out")["step"][1]
    key = "epochs" if name in LENGTH else "iterations"
    assert extensions(path) == [(key, unit, 2 * unit, done, [])]
    assert run.config[key] == read_run(whole).config[key] == 2 * unit
    # Again the same: it has finished, and nothing changes.
    before = path.read_bytes()
    assert command(longer(name, path, 2, "--resume")) == 0
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_ended_is_made_longer_and_ended_and_made_longer(
    arguments: dict[str, list[object]], tmp_path: Path, number: int
) -> None:
    name, args = "eqprop-run", arguments["eqprop-run"]
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"
    assert command([*longer(name, whole, 4), *args]) == 0
    every = ["--checkpoint-every", 1]
    ends = -number if number == signal.SIGKILL else 75
    assert command([*longer(name, path, 1), *args, *every], end_at(3, number, True)) == ends
    again = longer(name, path, 3, "--resume", *every)
    assert command(again, end_at(7, number, False)) == ends
    assert command([*line(name, path), "--resume"]) == 0
    assert [each[:4] for each in extensions(path)] == [("epochs", 1, 3, 3)]
    moved = tmp_path / "elsewhere" / "moved.h5"
    moved.parent.mkdir()
    path.rename(moved)
    assert command(longer(name, moved, 4, "--resume")) == 0
    assert same_as(moved, fingerprint(read_run(whole)))
    assert len(extensions(moved)) == 2


MIXED = ["--algorithm", "nash-md", "--set", "mixture=0.5"]
# Schedules over a run's length, and the keys that set them.
SCHEDULES = [
    ("eqprop-run", ["--set", "optimizer.schedule=cosine"], "optimizer.schedule=cosine"),
    ("eqprop-run", ["--set", "optimizer.schedule=linear"], "optimizer.schedule=linear"),
    # Its milestones are shares of the run.
    ("eqprop-run", ["--set", "optimizer.schedule=step"], "optimizer.schedule=step"),
    ("nash-md", ["--set", "tau_start=0.5"], "tau_schedule=geometric"),
    ("nash-md", [*MIXED, "--set", "mixture_end=0.1"], "mixture_schedule=linear"),
    ("nash-md", [*MIXED, "--set", "eta=0.9", "--set", "eta_end=0.1"], "eta_schedule=geometric"),
    ("preference-train", ["--set", "schedule=linear"], "schedule=linear"),
    ("preference-train", ["--set", "warmup=0.4"], "warmup=0.4"),
    ("nash-md model", ["--set", "tau_start=0.5"], "tau_schedule=geometric"),
    ("nash-md model", ["--set", "optimizer.schedule=cosine"], "optimizer.schedule=cosine"),
    ("warm-start", ["--set", "optimizer.schedule=cosine"], "optimizer.schedule=cosine"),
]


def _first_of_each_command() -> Iterator[Any]:
    """The schedules, all but the first of each command as slow."""
    seen: set[str] = set()
    for each in SCHEDULES:
        yield pytest.param(*each, marks=pytest.mark.slow) if each[0] in seen else each
        seen.add(each[0])


@pytest.mark.parametrize(("name", "settings", "told"), [*_first_of_each_command()])
def test_a_schedule_over_the_length_is_named_and_taken_over_the_new_one_if_asked(
    arguments: dict[str, list[object]], tmp_path: Path, name: str, settings: list[str], told: str
) -> None:
    if name not in arguments:
        pytest.skip("transformers is not installed")
    path = tmp_path / "run.h5"
    assert command([*longer(name, path, 1), *arguments[name], *settings]) == 0
    before, there = path.read_bytes(), sorted(tmp_path.iterdir())
    said = told_no(longer(name, path, 2, "--resume"))
    assert f"{path}: {told} depends on where the run ends" in said
    assert "add --reschedule" in said
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == there
    assert command(longer(name, path, 2, "--resume", "--reschedule")) == 0
    ((key, was, now, step, rescheduled),) = extensions(path)
    assert (now, rescheduled) == (2 * was, [told])
    run = read_run(path)
    assert (run.status, run.config[key]) == ("finished", now)
    if name == "eqprop-run":
        # From there on the rate is that of the schedule over both halves.
        whole = tmp_path / "whole.h5"
        assert command([*longer(name, whole, 2), *arguments[name], *settings]) == 0
        steps, rates = (run.table()[column] for column in ("step", "learning_rate"))
        expected = read_run(whole).table()["learning_rate"]
        assert rates[steps > step].tolist() == expected[steps > step].tolist() != []


def test_a_schedule_that_has_not_felt_the_end_needs_no_leave(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    name, path, whole = "eqprop-run", tmp_path / "run.h5", tmp_path / "whole.h5"
    args = [*arguments[name], "--set", "optimizer.schedule=step"]
    assert command([*longer(name, whole, 4), *args]) == 0
    assert command([*longer(name, path, 2), *args], end_at(4, signal.SIGTERM, False)) == 75
    assert command(longer(name, path, 4, "--resume")) == 0  # the first milestone was after step 5
    assert same_as(path, fingerprint(read_run(whole)))


def test_what_cannot_be_made_longer_says_why(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    name, path = "nash-md", tmp_path / "run.h5"
    assert command([*longer(name, path, 2), *arguments[name]]) == 0
    before = path.read_bytes()
    said = told_no(longer(name, path, 1, "--resume"))
    assert f"{path}: iterations=5 is no more than it has done, 10;" in said
    said = told_no(longer(name, path, 3, "--resume", "--set", "votes=6"))
    assert "written with votes=5, not 6" in said
    assert "--resume" in told_no(longer(name, tmp_path / "new.h5", 1, "--reschedule"))
    assert path.read_bytes() == before
    # Logs of older versions have no last state; one with a damaged state is as if it had none.
    for damage in ("gone", "damaged"):
        copy = tmp_path / f"{damage}.h5"
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            if damage == "gone":
                del file["last_state"]
            else:
                state = file["last_state/state.json"]
                assert isinstance(state, h5py.Dataset)
                state[30] = state[30] ^ 1
        assert f"its last state {'was not kept' if damage == 'gone' else 'is damaged'}" in told_no(
            longer(name, copy, 3, "--resume")
        )
        assert read_run(copy).status == "finished"


def test_a_large_last_state_stays_beside_the_log(
    arguments: dict[str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KEPT_BYTES", 100)
    name, path, whole = "nash-md", tmp_path / "run.h5", tmp_path / "whole.h5"
    assert command([*longer(name, whole, 2), *arguments[name]]) == 0
    assert command([*longer(name, path, 1), *arguments[name], "--checkpoint-every", 1]) == 0
    (kept,) = checkpoints(checkpoint_folder(path))
    assert kept.name == "step-000000000005"
    with h5py.File(path) as file:
        assert "last_state" not in file
    assert command([*line(name, path), "--resume"]) == 0  # finished: nothing changes
    assert call("runs", "recover", path).exit_code == 0
    assert checkpoints(checkpoint_folder(path)) == [kept]
    assert command(longer(name, path, 2, "--resume")) == 0
    assert fingerprint(read_run(path)) == fingerprint(read_run(whole))
    assert [each.name for each in checkpoints(checkpoint_folder(path))] == ["step-000000000010"]


@pytest.mark.slow
def test_a_sweep_is_made_longer(arguments: dict[str, list[object]], tmp_path: Path) -> None:
    args = ["nash-md", "--game", "rock-paper-scissors", "--seeds", "1", "--quiet", "--jobs", 1]
    folder = tmp_path / "sweep"
    assert call(*args, "--iterations", 5, "--out", folder).exit_code == 0
    assert call(*args, "--iterations", 10, "--out", folder, "--resume").exit_code == 0
    path = folder / "seed=1.h5"
    assert [each[:3] for each in extensions(path)] == [("iterations", 5, 10)]
    assert read_run(path).status == "finished"
