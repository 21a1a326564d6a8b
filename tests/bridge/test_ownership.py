"""Only files of the run are removed, and no checkpoint before its replacement is complete."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from bridge.checkpoint import (
    checkpoints,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    whose,
)
from bridge.distributed import Group
from bridge.errors import InputError, LogGone, RunFailed
from bridge.ranks import open_rank
from bridge.runlog import liveness, read_run
from bridge.session import checkpoint_folder
from tests.bridge.test_failing import losses, nothing, run
from tests.command_line import call

MINE = ("notes", "step-000000000001", "step-000000000002/notes", ".step-000000000009.123")


def failing_at(at: int) -> Callable[[int, str], None]:
    """Fail at a step, before anything has changed."""

    def fail(step: int, where: str) -> None:
        if (step, where) == (at, "as the step begins"):
            raise TimeoutError("no answer")

    return fail


def stopped(path: Path, at: int = 4) -> None:
    """Leave a run that has failed, with a checkpoint."""
    with pytest.raises(RunFailed):
        run(path, "sgd", failing_at(at))


def litter(folder: Path) -> None:
    """Put a user's own files where checkpoints are."""
    for name in MINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def untouched(folder: Path) -> bool:
    """Whether they are all there, by some name."""
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    return texts == ["mine"] * len(MINE)


def test_a_strangers_files_among_checkpoints_outlive_every_end(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    litter(checkpoint_folder(path))
    stopped(path)
    run(path, "sgd", nothing)
    assert read_run(path).status == "finished"
    assert untouched(checkpoint_folder(path))


def test_recovering_a_finished_runs_log_removes_what_it_could_not_remove_itself(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "run.h5", tmp_path / "other.h5"
    for each in (path, other):
        stopped(each)
        shutil.copytree(checkpoint_folder(each), tmp_path / f"{each.name}.kept")
    run(path, "sgd", nothing)
    for each in (path, other):
        shutil.rmtree(checkpoint_folder(each), ignore_errors=True)
        shutil.move(tmp_path / f"{each.name}.kept", checkpoint_folder(each))
    (checkpoint_folder(path) / "notes").write_text("mine")
    assert call("runs", "recover", path, other).exit_code == 0
    assert [p.name for p in checkpoint_folder(path).iterdir()] == ["notes"]
    assert len(checkpoints(checkpoint_folder(other))) == 1


def test_checkpoints_of_another_run_are_neither_used_nor_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "run.h5", tmp_path / "other.h5"
    stopped(other, at=3)
    stopped(path)
    (theirs,) = checkpoints(checkpoint_folder(other))
    copied = checkpoint_folder(path) / theirs.name
    shutil.copytree(theirs, copied)
    run(path, "sgd", nothing)
    assert read_run(path).status == "finished"
    assert whose(copied) == read_run(other).meta["run_id"]
    assert list(checkpoint_folder(path).iterdir()) == [copied]


def test_a_run_without_its_log_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"
    run(whole, "sgd", nothing)
    stopped(path, at=5)
    run_id = read_run(path).meta["run_id"]
    path.unlink()
    stopped(path, at=5)  # before the first step of the new log is done
    stopped(path, at=6)
    log = read_run(path)
    assert log.meta["run_id"] == run_id
    assert log.table()["step"].tolist() == [5]
    run(path, "sgd", nothing)
    assert losses(path) == losses(whole)[4:]
    assert not checkpoint_folder(path).exists()


def test_checkpoints_without_a_log_that_cannot_be_gone_on_with_are_named_and_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.h5"
    stopped(path)
    path.unlink()
    (kept,) = checkpoints(checkpoint_folder(path))
    (kept / "tensors.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"run\.h5\.checkpoints cannot be gone on with.*damaged"):
        run(path, "sgd", nothing)
    assert kept.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    ("meddle", "how"),
    [
        (lambda path: path.unlink(), "deleted"),
        (lambda path: path.rename(path.with_name("moved.h5")), "moved"),
        (lambda path: os.replace(_other(path), path), "replaced by another file"),
    ],
)
def test_a_log_that_goes_away_stops_the_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Path], None], how: str
) -> None:
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"
    run(whole, "sgd", nothing)
    monkeypatch.setattr(liveness, "HEARTBEAT_SECONDS", 0.05)

    def fail(step: int, where: str) -> None:
        if (step, where) == (4, "as the step begins"):
            meddle(path)
            time.sleep(0.1)
        assert step < 5

    words = f"this log was {how} while the run wrote it; a checkpoint of step 4 is written; go on"
    with pytest.raises(LogGone, match=words):
        run(path, "sgd", fail)
    assert [p.name[-2:] for p in checkpoints(checkpoint_folder(path))] == ["04"]
    if how == "moved":
        (tmp_path / "moved.h5").rename(path)
    elif how != "deleted":
        assert path.read_text() == "another"
        path.unlink()
    run(path, "sgd", nothing)
    assert losses(path) == losses(whole)[0 if how == "moved" else 4 :]


def test_a_log_that_is_gone_at_the_end_costs_no_step(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"

    def fail(step: int, where: str) -> None:
        if (step, where) == (6, "as the step begins"):
            path.unlink()

    with pytest.raises(LogGone, match="deleted while the run wrote it; a checkpoint of step 6"):
        run(path, "sgd", fail)


def _other(path: Path) -> Path:
    other = path.with_name("other")
    other.write_text("another")
    return other


def test_of_ones_own_checkpoints_only_what_is_replaced_goes(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        save_checkpoint(tmp_path, step, {}, {"run_id": "a", "rows": {}})
    save_checkpoint(tmp_path, 4, {}, {"run_id": "b", "rows": {}})
    # gone on with from step 2: those of later steps stay until there is a newer one
    save_checkpoint(tmp_path, 3, {}, {"run_id": "a", "rows": {}})
    left = {path.name[-1]: whose(path) for path in checkpoints(tmp_path)}
    assert left == {"2": "a", "3": "a", "4": "b"}


def test_a_checkpoint_of_the_same_step_is_replaced_and_a_file_of_that_name_moved(
    tmp_path: Path,
) -> None:
    for value in (1, 2):
        save_checkpoint(tmp_path, 1, {"x": value}, {"run_id": "a", "rows": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]
    assert load_checkpoint(tmp_path / "step-000000000001").state == {"x": 2}
    save_checkpoint(tmp_path, 1, {"x": 3}, {"run_id": "b", "rows": {}})
    others = [whose(path) for path in tmp_path.iterdir() if path.name.startswith("other-")]
    assert others == ["a"]
    remove_checkpoints(tmp_path, "b")
    assert [whose(path) for path in tmp_path.iterdir()] == ["a"]


def test_a_checkpoint_that_cannot_be_read_back_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {}, {"run_id": "a", "rows": {}})

    class Wrong:
        def hexdigest(self) -> str:
            return "0"

    monkeypatch.setattr("hashlib.file_digest", lambda *given: Wrong())
    with pytest.raises(OSError, match="cannot be read back"):
        save_checkpoint(tmp_path, 3, {}, {"run_id": "a", "rows": {}})
    assert {"01", "02"} <= {path.name[-2:] for path in checkpoints(tmp_path)}


@pytest.mark.parametrize("damage", ["no file of HDF5", "an index torn", "rows lost"])
def test_a_log_that_cannot_be_read_costs_only_the_log(tmp_path: Path, damage: str) -> None:
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"
    run(whole, "sgd", nothing)
    stopped(path)
    data = path.read_bytes()
    if damage == "rows lost":
        with h5py.File(path, "r+") as file:
            # As a kill leaves it, and then damaged.
            del file.attrs["sealed"]
            file["metrics/crc"][0] += 1  # type: ignore[index]
    elif damage == "an index torn":
        place = data.index(b"OHDR", 100)
        path.write_bytes(data[: place + 6] + bytes(300) + data[place + 306 :])
    else:
        path.write_bytes(data[100:])
    damaged = path.read_bytes()
    run(path, "sgd", nothing)
    assert (tmp_path / "run.damaged-1.h5").read_bytes() == damaged
    steps = read_run(path).table()["step"].tolist()
    assert steps[-1] == read_run(whole).table()["step"].tolist()[-1]
    assert steps[0] > 1
    assert losses(path) == losses(whole)[-len(steps) :]
    assert not checkpoint_folder(path).exists()


def test_the_file_of_another_runs_process_is_replaced_only_when_asked_to(tmp_path: Path) -> None:
    def opened(run_id: str, overwrite: bool = False) -> str:
        log = open_rank(tmp_path / "run.h5", Group(), run_id, 0, {}, 0, overwrite).log
        log.close()
        return read_run(log.path).meta["parent"]

    assert opened("a") == opened("a") == "a"
    with pytest.raises(InputError, match=r"run\.rank0\.h5: exists"):
        opened("b")
    assert opened("b", overwrite=True) == "b"
