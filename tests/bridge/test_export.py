"""Exports, checked by the programs that read them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bridge import open_run
from bridge.runlog import read_run
from bridge.runlog.stream import LogFile
from bridge.runlog.tensorboard import crc32c
from cli import main

HARD = [0.1, 1 / 3, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, -0.0]


@dataclass(frozen=True)
class Row:
    step: int
    loss: float
    good: bool
    phase: Literal["free", 'a,b"c']


def call(*args: Any) -> Result:
    return CliRunner().invoke(main, ["runs", "export", *map(str, args)])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    with open_run(path, tables={"metrics": Row, "more": Row}, config={"a": 1}, seed=0) as log:
        for step, loss in enumerate(HARD):
            log.log("metrics", Row(step, loss, step % 2 == 0, 'a,b"c' if step % 3 else "free"))
        log.log("more", Row(2**62, 1.5, True, "free"))
    return path


def test_csv_keeps_every_bit(log: Path, tmp_path: Path) -> None:
    result = call(log, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    names = [Path(name).name for name in json.loads(result.stdout)["files"]]
    assert names == ["metrics.csv", "more.csv"]
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    got = np.array([float(row["loss"]) for row in rows])
    assert got.tobytes() == np.array(HARD).tobytes()
    table = read_run(log).table()
    assert [row["phase"] for row in rows] == table["phase"].tolist()
    assert [row["good"] for row in rows] == [str(good) for good in table["good"].tolist()]
    assert (tmp_path / "out" / "more.csv").read_text().splitlines()[1].startswith(str(2**62))


def test_parquet_keeps_every_bit(log: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert call(log, "--out", tmp_path / "out", "--format", "parquet").exit_code == 0
    read = parquet.read_table(tmp_path / "out" / "metrics.parquet")
    table = read_run(log).table()
    for name, values in table.items():
        np.testing.assert_array_equal(np.array(read[name].to_pylist()), values)
    assert read["loss"].to_numpy().tobytes() == table["loss"].tobytes()
    meta = json.loads(read.schema.metadata[b"bioplaus"])
    assert meta["run_id"] == read_run(log).meta["run_id"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_events(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert call(log, "--out", tmp_path / "out", "--format", "tensorboard").exit_code == 0
    events = EventAccumulator(str(tmp_path / "out"))
    events.Reload()
    tags = events.Tags()["scalars"]
    free = "metrics/loss[phase=free]"
    assert free in tags
    found = events.Scalars(free)
    table = read_run(log).table()
    rows = table["phase"] == "free"
    assert [event.step for event in found] == table["step"][rows].tolist()
    with np.errstate(over="ignore"):
        expected = table["loss"][rows].astype(np.float32)
    np.testing.assert_array_equal(np.array([e.value for e in found], np.float32), expected)
    assert events.Scalars("more/loss[phase=free]")[0].step == 2**62


def test_the_checksum_is_castagnolis() -> None:
    # RFC 3720, appendix B.4, and the check value of the catalogue of CRCs
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_one_table_can_be_had_alone(log: Path, tmp_path: Path) -> None:
    assert call(log, "--out", tmp_path / "out", "--table", "more").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["more.csv"]


def test_nothing_is_overwritten_or_left_behind(log: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for arguments, word in (
        (("--out", tmp_path / "full"), "not empty"),
        (("--out", log), "no folder"),
        (("--out", tmp_path / "none" / "out"), "no folder"),
        (("--out", tmp_path / "out", "--table", "nine"), "no table 'nine'"),
        (("--out", tmp_path / "out", "--format", "xls"), "xls"),
    ):
        result = call(log, *arguments)
        assert result.exit_code == 2
        assert word in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert call(log, "--out", tmp_path / "empty").exit_code == 0


@pytest.mark.parametrize("form", ["csv", "parquet", "tensorboard"])
def test_rows_go_by_in_blocks(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    assert call(log, "--out", tmp_path / "whole", "--format", form).exit_code == 0
    monkeypatch.setattr(LogFile.blocks, "__defaults__", (3,))
    monkeypatch.setattr(LogFile.windows, "__defaults__", (3,))
    assert call(log, "--out", tmp_path / "blocks", "--format", form).exit_code == 0
    for whole in (tmp_path / "whole").iterdir():
        part = tmp_path / "blocks" / whole.name
        if form == "parquet":
            from pyarrow.parquet import read_table

            assert str(read_table(part).to_pylist()) == str(read_table(whole).to_pylist())
        else:
            assert part.read_bytes() == whole.read_bytes()
