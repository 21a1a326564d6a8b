"""Reading rows piece by piece, sealed or not, gives the same as reading them at once."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import InputError
from bridge.runlog import list_runs, read_run, recover, stream
from bridge.runlog.listing import describe_log
from bridge.runlog.reopening import reopen_run
from bridge.runlog.replay import Replay
from bridge.runlog.stream import open_log
from tests.bridge.records import WEIGHTS, Epoch, Step, new_log, row, weights_of

ROWS = 5000


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several segments of the journal, as a kill leaves it."""
    folder = tmp_path_factory.mktemp("logs")
    with new_log(folder / "run.h5") as log:
        for step in range(ROWS):
            log.log("metrics", row(step))
            if step % 100 == 0:
                log.log("epochs", Epoch(step, step // 100, step / 7))
            if step % 900 == 0:
                log.event("note", text="x" * 2500)
        log.save_weights(ROWS, weights_of(ROWS))
        shutil.copy(log.path, folder / "growing.h5")
    return folder / "growing.h5"


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of 97 rows; gives how many rows of a user's table were read at a time."""
    monkeypatch.setattr(stream, "BLOCK", 97)
    monkeypatch.setattr(stream.LogFile.blocks, "__defaults__", (97,))
    monkeypatch.setattr("bridge.runlog.writer._KEPT_ROWS", 97)
    read, sizes = Replay.read, []

    def counting(self: Replay, table: int, start: int, end: int) -> object:
        if table < 2:
            sizes.append(end - start)
        return read(self, table, start, end)

    monkeypatch.setattr(Replay, "read", counting)
    return sizes


def require_equal(path: Path, other: Path) -> None:
    """Check that two logs are equal except for how they ended."""
    one, two = read_run(path), read_run(other)
    assert one.meta["run_id"] == two.meta["run_id"]
    assert one.tables.keys() == two.tables.keys()
    for name, table in one.tables.items():
        for column, values in table.items():
            assert np.array_equal(values, two.tables[name][column])
    notes = [[e for e in run.events if e["kind"] == "note"] for run in (one, two)]
    assert notes[0] == notes[1]
    assert not one.dropped
    assert not two.dropped


def test_blocks_and_slices_of_a_growing_log_are_its_rows(
    growing: Path, few_at_a_time: list[int]
) -> None:
    run = read_run(growing)
    with open_log(growing) as log:
        assert not log.sealed
        for name, table in run.tables.items():
            blocks = list(log.blocks(name))
            for column, values in table.items():
                assert np.array_equal(np.concatenate([b[column] for b in blocks]), values)
            for start, end in ((0, 1), (49, 50), (10, 40)):
                part = log.slice(name, start, end)
                assert np.array_equal(part["step"], table["step"][start:end])
        assert log.slice("metrics", ROWS - 1, ROWS)["step"].tolist() == [ROWS - 1]
    assert max(few_at_a_time) == 97


def test_a_log_is_sealed_piece_by_piece(
    tmp_path: Path, growing: Path, few_at_a_time: list[int]
) -> None:
    path = Path(shutil.copy(growing, tmp_path / "run.h5"))
    assert recover(path) == {}
    require_equal(path, growing)
    assert read_run(path).sealed
    assert read_run(path).weights()[0] == ROWS
    assert max(few_at_a_time) == 97
    about, rows = describe_log(path), read_run(path).table()
    loss = about["tables"]["metrics"]["columns"]["loss"]
    assert loss == {"first": 0.0, "last": rows["loss"][-1], "min": 0.0, "max": rows["loss"].max()}


def test_a_log_is_gone_on_with_piece_by_piece(
    tmp_path: Path, growing: Path, few_at_a_time: list[int]
) -> None:
    path = Path(shutil.copy(growing, tmp_path / "run.h5"))
    rows = {"metrics": ROWS, "epochs": ROWS // 100}
    again = reopen_run(
        path,
        tables={"metrics": Step, "epochs": Epoch},
        config={"epochs": 3},
        rows=rows,
        step=ROWS,
        weights=WEIGHTS,
    )
    assert again.rows == rows
    require_equal(path, growing)
    again.close()
    require_equal(path, growing)
    assert max(few_at_a_time) == 97


def test_a_large_log_that_is_not_sealed_is_shown_by_its_ends(
    growing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.runlog.listing._SMALL", 0)
    monkeypatch.setattr(Replay, "verify", lambda self: pytest.fail("all rows were read"))
    about = describe_log(growing)
    assert about["tables"]["metrics"]["rows"] == ROWS
    assert about["tables"]["metrics"]["columns"]["loss"] == {
        "first": row(0).loss,
        "last": row(ROWS - 1).loss,
    }
    assert [event["kind"] for event in about["events"]] == ["note"] * 6
    (listed,) = list_runs([growing])
    assert (listed["rows"], listed["step"]) == (ROWS + ROWS // 100, ROWS - 1)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.99])
def test_rows_past_a_damaged_one_are_counted_or_refused(
    tmp_path: Path, growing: Path, place: float
) -> None:
    """A whole read counts them; a partial read meets the damaged one."""
    path = tmp_path / "run.h5"
    data = bytearray(growing.read_bytes())
    step = int(place * ROWS)
    value, found = struct.pack("<d", row(step).loss), 0
    while (at := data.find(value)) >= 0:
        data[at] ^= 1
        found += 1
    assert found  # in the journal, and mostly in the dataset too
    path.write_bytes(data)
    run = read_run(path)
    assert run.dropped == {"metrics": ROWS - step}
    with open_log(path) as log:
        assert log.dropped == run.dropped
        assert log.rows("metrics") == step
        assert np.array_equal(log.whole("metrics")["loss"], run.table()["loss"])
    if step > 0.9 * ROWS:
        return  # in the last segment, which is read at once
    with open_log(path, whole=False) as log:
        assert log.slice("metrics", step - 1, step)["step"].tolist() == [step - 1]
    with pytest.raises(InputError, match=f"row {step}"), open_log(path, whole=False) as log:
        log.slice("metrics", step, step + 1)
