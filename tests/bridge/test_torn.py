"""A read that meets a change is repeated; an incomplete event is never accepted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge.errors import StorageError
from bridge.runlog import guard, list_runs, read_run, superblock
from bridge.runlog.journal import Journal
from bridge.runlog.listing import describe_log
from bridge.runlog.schema import event_rows
from bridge.runlog.stream import open_log
from tests.bridge.records import new_log, row, sealed_log, weights_of


@pytest.mark.parametrize("pieces", range(1, 7))
def test_an_event_that_the_disk_cut_off_is_left_out_and_the_next_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    path = tmp_path / "run.h5"
    text = "x" * (pieces * 1000 + 10)
    append, left = Journal.append, pieces

    def refuses(self: Journal, table: int, packed: bytes, crc: int) -> None:
        nonlocal left
        if left == 0:
            left = -1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, table, packed, crc)
        left -= 1

    with new_log(path) as log:
        log.event("note", text="before")
        monkeypatch.setattr(Journal, "append", refuses)
        with pytest.raises(StorageError):
            log.event("note", text=text)
        log.event("note", text="after")
        growing = [event["text"] for event in read_run(path).events]
    assert growing == ["before", "after"]
    assert [event["text"] for event in read_run(path).events] == ["before", "after"]


def test_a_number_given_twice_joins_no_event_to_another(tmp_path: Path) -> None:
    """As in logs whose writer met a full disk before it had used up its numbers."""
    path = tmp_path / "run.h5"
    with new_log(path) as log:
        events = log._writers["events"]
        for each in event_rows(1e9, 0, {"kind": "note", "text": "x" * 3000})[:2]:
            events.append(each)
        for each in event_rows(1e9 + 1, 0, {"kind": "note", "text": "y" * 3000}):
            events.append(each)
    assert [event["text"] for event in read_run(path).events] == ["y" * 3000]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of 20 rows: growing, closed as before sealing, and sealed."""
    folder = tmp_path_factory.mktemp("logs")
    with new_log(folder / "run.h5") as log:
        for step in range(20):
            log.log("metrics", row(step))
        log.save_weights(20, weights_of(20))
        log.sync()
        shutil.copy(log.path, folder / "growing")
    data = bytearray((folder / "growing").read_bytes())
    data[: superblock.SIZE] = superblock.closed(bytes(data[: superblock.SIZE]), len(data))
    (folder / "closed").write_bytes(data)
    shutil.copy(log.path, folder / "sealed")
    return folder


def _read(path: Path) -> int:
    return len(read_run(path).table()["step"])


def _open(path: Path) -> int:
    with open_log(path) as log:
        return len(log.whole("metrics")["step"])


def _weights(path: Path) -> int:
    run = read_run(path)
    run.weights()
    return len(run.table()["step"])


@pytest.mark.parametrize(
    "look",
    [
        _read,
        _open,
        _weights,
        lambda path: list_runs([path])[0]["rows"],
        lambda path: describe_log(path)["tables"]["metrics"]["rows"],
    ],
    ids=["read", "open", "weights", "list", "show"],
)
@pytest.mark.parametrize("before", ["closed", "sealed"])
@pytest.mark.parametrize("after", ["sealed", "growing"])
def test_a_log_that_another_replaces_as_it_is_opened_is_read_again(
    tmp_path: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    look: Callable[[Path], int],
    before: str,
    after: str,
) -> None:
    """HDF5 opens a file by its name, just after its first bytes were read."""
    path, place = tmp_path / "run.h5", tmp_path / "other.h5"
    shutil.copy(made / before, path)
    shutil.copy(made / after, place)
    real = h5py.File

    def replacing(name: Any, *args: Any, **options: Any) -> h5py.File:
        if place.exists():
            os.replace(place, path)
        return real(name, *args, **options)

    monkeypatch.setattr(guard.h5py, "File", replacing)
    assert look(path) == 20


def test_rows_torn_just_before_a_log_was_sealed_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is gone when the reader looks for it; the file is complete by then."""
    path, place = tmp_path / "run.h5", sealed_log(tmp_path / "other.h5")
    with new_log(tmp_path / "growing.h5") as log:
        for step in range(20):
            log.log("metrics", row(step))
        shutil.copy(log.path, path)
    data = bytearray(path.read_bytes())
    at = data.index(row(10).step.to_bytes(8, "little") * 2)
    data[at + 20] ^= 1
    path.write_bytes(data)
    group = guard.group

    def replacing(parent: Any, name: str) -> Any:
        if name == "journal" and place.exists():
            os.replace(place, path)
        return group(parent, name)

    monkeypatch.setattr(guard, "group", replacing)
    assert _read(path) == 20
    assert not read_run(path).dropped
