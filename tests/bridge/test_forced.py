"""What must be on the disk before something else counts, in the order of the writes."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
import torch

from bridge.checkpoint import load_checkpoint, save_checkpoint
from bridge.errors import StorageError
from bridge.runlog import read_run, superblock
from bridge.runlog.seal import seal
from tests.bridge.records import new_log, row, sealed_log, weights_of

STATE = {"weights": {"W": torch.arange(12.0).reshape(3, 4)}, "step": 7}


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is forced, (inode, size at that moment), and what is renamed, in order."""
    seen: list[tuple[str, int, int]] = []
    force, rename, replace = os.fsync, os.rename, os.replace

    def forced(fd: int) -> None:
        found = os.fstat(fd)
        seen.append(("forced", found.st_ino, found.st_size))
        force(fd)

    def renamed(source: str | Path, target: str | Path, **more: int) -> None:
        seen.append(("renamed", os.stat(source).st_ino, 0))
        rename(source, target, **more)

    def replaced(source: str | Path, target: str | Path, **more: int) -> None:
        seen.append(("renamed", os.stat(source).st_ino, 0))
        replace(source, target, **more)

    monkeypatch.setattr(os, "fsync", forced)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_every_file_of_a_checkpoint_is_forced_whole_before_its_name_counts(
    tmp_path: Path, events: list[tuple[str, int, int]]
) -> None:
    path = save_checkpoint(tmp_path / "run", 7, STATE, {})
    assert load_checkpoint(path).step == 7
    named = events.index(("renamed", path.stat().st_ino, 0))
    before, after = events[:named], events[named + 1 :]
    files = list(path.iterdir())
    assert len(files) == 3
    for file in files:
        found = file.stat()
        assert ("forced", found.st_ino, found.st_size) in before, file.name
    # the names in the new folder are forced once they are all there; its own name afterwards
    last = max(i for i, event in enumerate(before) if event[1] in {f.stat().st_ino for f in files})
    assert path.stat().st_ino in {inode for _, inode, _ in before[last:]}
    assert (tmp_path / "run").stat().st_ino in {inode for _, inode, _ in after}


def test_a_sealed_log_is_forced_whole_before_it_takes_the_log_s_name(
    tmp_path: Path, events: list[tuple[str, int, int]]
) -> None:
    path = sealed_log(tmp_path / "run.h5")
    assert read_run(path).sealed
    found = path.stat()
    named = max(i for i, event in enumerate(events) if event[0] == "renamed")
    assert events[named][1] == found.st_ino
    assert ("forced", found.st_ino, found.st_size) in events[:named]
    assert tmp_path.stat().st_ino in {inode for _, inode, _ in events[named:]}


def test_a_log_with_a_damaged_row_is_not_sealed_as_if_it_were_whole(tmp_path: Path) -> None:
    path = tmp_path / "crashed.h5"
    with new_log(tmp_path / "run.h5") as log:
        for step in range(600):
            log.log("metrics", row(step))
        log.save_weights(600, weights_of(600))
        log.sync()
        shutil.copy(log.path, path)
    # in every place where the row is kept
    data = path.read_bytes().replace(struct.pack("<d", 501 / 3), struct.pack("<d", 500 / 3))
    path.write_bytes(data)
    with pytest.raises(StorageError, match="metrics"):
        seal(path)
    assert path.read_bytes() == data
    assert read_run(path).dropped == {"metrics": 99}


def test_a_whole_log_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "crashed.h5"
    with new_log(tmp_path / "run.h5") as log:
        for step in range(20):
            log.log("metrics", row(step))
        log.sync()
        shutil.copy(log.path, path)
    seal(path)
    run = read_run(path)
    assert run.sealed
    assert run.table()["step"].tolist() == list(range(20))


def test_a_sealed_log_keeps_no_room_that_it_does_not_need(tmp_path: Path) -> None:
    data = sealed_log(tmp_path / "run.h5").read_bytes()
    assert len(data) == superblock.end(data[: superblock.SIZE])
