"""After any kill, and for any reader, no row of a log is missing or wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge.runlog import read_run
from tests.bridge.killing import Told, fork_writer
from tests.bridge.records import new_log, row
from tests.in_numbers import in_numbers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked")


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """A folder in memory if there is one: a kill needs no fsync, which would take most time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def counted(module: str, *args: object) -> dict[str, Any]:
    """What a module of the tests, run as a program, has counted."""
    command = [sys.executable, "-m", f"tests.bridge.{module}", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kills", "seed"), in_numbers((20, 0), (200, 1), (1000, 1)))
def test_a_killed_run_keeps_every_acknowledged_row(
    quick_folder: Path, kills: int, seed: int
) -> None:
    moments = counted("killing", quick_folder, kills, seed)["moments"]
    assert sum(moments.values()) == kills
    assert moments["while rows were written"] > kills / 10
    assert kills < 1000 or moments["as it was sealed"] > 0


@pytest.mark.parametrize(
    # How many of a few kills fall where is chance.
    ("kills", "seed", "least"),
    in_numbers((6, 0, 0), (200, 2, 5), (1000, 1, 50)),
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    quick_folder: Path, kills: int, seed: int, least: int
) -> None:
    found = counted("killing_sessions", quick_folder, kills, seed)
    assert sum(found["moments"].values()) == kills
    assert found["runs"] > kills / 10
    assert found["moments"].get("as a checkpoint's files were written", 0) >= least


@pytest.mark.parametrize("reads", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_readers_see_every_acknowledged_row_while_it_is_written(
    quick_folder: Path, reads: int
) -> None:
    found = counted("reading", quick_folder, reads, 2)
    assert found["while written"] == reads
    assert found["with weights"] > 0


def test_a_killed_writer_is_known_to_be_dead(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    pid, pipe = fork_writer(path, 10**6)
    told = Told(pipe)
    told.wait_for("row3")
    assert read_run(path).alive
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    run = read_run(path)
    assert run.status == "running"
    assert not run.alive
    told.last()
    with new_log(path, overwrite=True):
        assert read_run(path).alive


def test_what_is_smaller_than_a_page_lies_in_one_page(tmp_path: Path) -> None:
    """A kill tears a write only where it crosses a page of memory."""
    path = tmp_path / "run.h5"
    with new_log(path) as log:
        for step in range(1200):
            log.log("metrics", row(step))
            log.event("note", text="x" * 900)
        spans = list(_spans(log._file))
    assert len(spans) > 300
    assert [s for s in spans if s[0] // 4096 != (s[0] + s[1] - 1) // 4096] == []


def _spans(file: h5py.File) -> Iterator[tuple[int, int]]:
    """Address and size of every chunk of a table, and of every header's first bytes."""
    for name in ("metrics", "epochs", "events", "status"):
        for dataset in file[name].values():  # type: ignore[union-attr]
            yield h5py.h5o.get_info(dataset.id).addr, 256
            for i in range(dataset.id.get_num_chunks()):
                chunk = dataset.id.get_chunk_info(i)
                yield chunk.byte_offset, chunk.size
