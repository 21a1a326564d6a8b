"""Sealing and recovering: the result is an ordinary HDF5 file, whatever happened before."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge.errors import InputError, StorageError
from bridge.runlog import liveness, read_run, recover, superblock
from bridge.runlog.provenance import process_identity
from tests.bridge.records import new_log, row, sealed_log, weights_of


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A log as a kill leaves it."""
    path = tmp_path / "crashed.h5"
    with new_log(tmp_path / "run.h5") as log:
        for step in range(600):
            log.log("metrics", row(step))
        log.save_weights(600, weights_of(600))
        shutil.copy(log.path, path)
    (tmp_path / "run.h5").unlink()
    return path


def test_a_recovered_log_is_an_ordinary_file_with_all_that_was_there(crashed: Path) -> None:
    before = read_run(crashed)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(crashed)
    assert recover(crashed) == {}
    after = read_run(crashed)
    assert (before.status, after.status) == ("running", "failed")
    assert after.sealed
    assert after.meta == before.meta
    assert after.events[-1]["kind"] == "recovered"
    assert after.weights()[0] == 600
    with h5py.File(crashed) as file:
        loss = file["metrics/loss"]
        assert isinstance(loss, h5py.Dataset)
        assert loss[:].tolist() == [step / 3 for step in range(600)]


def test_recovering_a_sealed_log_changes_nothing(tmp_path: Path) -> None:
    path = sealed_log(tmp_path / "run.h5")
    before = path.read_bytes()
    assert recover(path) == {}
    assert path.read_bytes() == before


def test_a_run_that_lives_is_not_recovered(tmp_path: Path) -> None:
    with (
        new_log(tmp_path / "run.h5") as log,
        pytest.raises(InputError, match=f"still being written by process {os.getpid()}"),
    ):
        recover(log.path)


def test_rows_past_a_damage_are_counted_and_left_out(crashed: Path) -> None:
    data = crashed.read_bytes()
    value = struct.pack("<d", 501 / 3)
    # A growing log has every row twice: where it was written first, and in its dataset.
    assert data.count(value) == 2
    crashed.write_bytes(data.replace(value, struct.pack("<d", 500 / 3), 1))
    assert len(read_run(crashed).table()["step"]) == 600
    assert read_run(crashed).dropped == {}
    crashed.write_bytes(data.replace(value, struct.pack("<d", 500 / 3)))
    assert read_run(crashed).dropped == {"metrics": 99}
    assert recover(crashed) == {"metrics": 99}
    run = read_run(crashed)
    assert run.table()["step"].tolist() == list(range(501))
    assert run.events[-1]["dropped"] == {"metrics": 99}
    assert run.dropped == {}


@pytest.mark.parametrize("next_", [recover, lambda path: new_log(path, overwrite=True).close()])
def test_leftovers_of_dead_processes_are_removed(
    crashed: Path, next_: Callable[[Path], object]
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [crashed.with_name(f"{crashed.name}.{kind}.{dead.pid}") for kind in ("tmp", "new")]
    kept = [crashed.with_name(f"{crashed.name}.tmp.{os.getpid()}x"), crashed.with_name("other")]
    for path in (*gone, *kept):
        path.write_text("")
    next_(crashed)
    assert [path.exists() for path in (*gone, *kept)] == [False, False, True, True]


def test_a_full_disk_at_sealing_leaves_the_log_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "run.h5")
    log.log("metrics", row(0))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match=r"cannot be sealed: .*No space left"):
            log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]
    run = read_run(log.path)
    assert (run.sealed, run.alive, run.status) == (False, False, "finished")
    assert recover(log.path) == {}
    assert read_run(log.path).status == "finished"


HDF5_FULL = """Unable to flush file (file write failed: time = Tue
, filename = 'a.h5', errno = 28, error message = 'No space left on device', offset = 5000)"""


@pytest.mark.parametrize("error", [OSError("No space left on device\nat"), RuntimeError(HDF5_FULL)])
def test_a_write_that_fails_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any) -> None:
        raise error

    with new_log(tmp_path / "run.h5") as log:
        log.log("metrics", row(0))
        with monkeypatch.context() as patch:
            patch.setattr(h5py.h5f, "flush", full)
            with pytest.raises(
                StorageError, match=r"cannot be written: No space left on device; .*runs recover"
            ):
                log.log("metrics", row(1))
    assert read_run(log.path).table()["step"].tolist()[:1] == [0]


def test_liveness_is_sure_here_and_trusts_the_heartbeat_elsewhere() -> None:
    mine = {"run_id": "a", "host": os.uname().nodename, "pid": os.getppid()}
    mine["process"] = process_identity(os.getppid())
    assert liveness.is_alive(mine, "running", 0.0)
    assert not liveness.is_alive({**mine, "process": "boot:1"}, "running", time.time())
    assert not liveness.is_alive(mine, "finished", time.time())
    elsewhere = {**mine, "host": "far away"}
    assert liveness.is_alive(elsewhere, "running", time.time() - 60)
    assert not liveness.is_alive(elsewhere, "running", time.time() - 600)


def test_the_checksum_is_lookup3() -> None:
    assert superblock.lookup3(b"") == 0xDEADBEEF
    assert superblock.lookup3(b"Four score and seven years ago") == 0x17770551


def test_a_closed_view_reads_as_the_file_does(crashed: Path) -> None:
    data = crashed.read_bytes()
    with superblock.ClosedView(crashed, data[: superblock.SIZE]) as view:
        seen = view.read(len(data))
        assert view.read(4) == bytes(4)
    assert seen is not None
    assert seen[superblock.SIZE :] == data[superblock.SIZE :]
    assert superblock.is_intact(seen[: superblock.SIZE])
    assert not superblock.is_open_for_writing(seen[: superblock.SIZE])
    assert superblock.is_open_for_writing(data[: superblock.SIZE])
