"""Damaged, foreign and hostile files: a one-line InputError, or the right data."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bridge.errors import InputError
from bridge.runlog import Run, guard, read_run
from tests.bridge.records import Epoch, new_log, row, sealed_log, weights_of
from tests.in_numbers import in_numbers


def refusal(path: Path, expected: Run) -> str:
    """The line that refuses a damaged log, or its weights; "" if neither is.

    What is told must be right, and what is not must be counted: the first rows of each table, the
    first events, the status, and weights that were saved once.
    """
    try:
        run = read_run(path)
    except InputError as error:
        return str(error)
    assert (run.meta, run.config, run.sealed) == (expected.meta, expected.config, expected.sealed)
    for name, table in expected.tables.items():
        rows = len(run.tables[name]["step"])
        assert rows + run.dropped.get(name, 0) == len(table["step"])
        assert run.tables[name].keys() == table.keys()
        for column, values in table.items():
            assert run.tables[name][column].tolist() == values[:rows].tolist()
    assert run.events == expected.events[: len(run.events)]
    assert "events" in run.dropped or len(run.events) == len(expected.events)
    same = (run.status, run.heartbeat) == (expected.status, expected.heartbeat)
    assert same or "status" in run.dropped
    assert not (run.sealed and run.dropped)
    try:
        step, weights = run.weights()
    except InputError as error:
        return str(error)
    newest = expected.weights()[0]
    assert step == newest or (step == newest - 10 and not run.sealed)
    assert weights.keys() == weights_of(step).keys()
    assert all(np.array_equal(weights[name], w) for name, w in weights_of(step).items())
    return ""


def is_one_line(message: str, path: Path) -> bool:
    """Whether it is one line that names the file."""
    return message.startswith(f"{path}: ") and "\n" not in message


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_log(tmp_path_factory.mktemp("logs") / "sealed.h5", rows=50)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log as a kill leaves it, with several of everything."""
    folder = tmp_path_factory.mktemp("logs")
    with new_log(folder / "run.h5") as log:
        for step in range(50):
            log.log("metrics", row(step))
            if step % 10 == 0:
                log.log("epochs", Epoch(step, step // 10, step / 7))
                log.save_weights(step, weights_of(step))
                log.event("note", text=f"{step} " * 400)
                log.sync()
        log.status = "stopped"
        log.sync()
        shutil.copy(log.path, folder / "crashed.h5")
    return folder / "crashed.h5"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(guard, "_ATTEMPTS", 2)


def _flips(data: bytes, n: int, seed: int) -> list[tuple[int, int]]:
    random_ = random.Random(seed)
    # Most bytes of a growing log's pages are unused; aim at those that are used.
    used = [i for i, byte in enumerate(data) if byte] + list(range(0, len(data), 97))
    return [(random_.choice(used), 1 << random_.randrange(8)) for _ in range(n)]


@pytest.mark.parametrize("n", in_numbers(100, 1000, 5000))
@pytest.mark.parametrize("kind", ["sealed", "crashed"])
def test_a_flipped_bit_is_refused_or_costs_rows_but_makes_none_wrong(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, n: int
) -> None:
    whole: Path = request.getfixturevalue(kind)
    expected, data, refused = read_run(whole), whole.read_bytes(), 0
    path = tmp_path / "flipped.h5"
    for place, bit in _flips(data, n, n):
        path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        message = refusal(path, expected)
        assert not message or is_one_line(message, path)
        refused += bool(message)
    # Every used byte of a sealed log counts.
    assert n / 2 < refused if kind == "sealed" else n / 20 < refused < n


@pytest.mark.parametrize("n", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["sealed", "crashed"])
def test_a_truncated_log_is_refused_or_costs_rows(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, n: int
) -> None:
    whole: Path = request.getfixturevalue(kind)
    expected, data = read_run(whole), whole.read_bytes()
    path = tmp_path / "short.h5"
    random_ = random.Random(n)
    for length in [0, 1, 7, 8, 47, 48, *(random_.randrange(len(data)) for _ in range(n))]:
        path.write_bytes(data[:length])
        message = refusal(path, expected)
        assert is_one_line(message, path) if message else kind == "crashed"


def _replace(file: h5py.File, name: str, **settings: Any) -> None:
    del file[name]
    file.create_dataset(name, **settings)


def _external_link(file: h5py.File) -> None:
    del file["metrics/loss"]
    file["metrics/loss"] = h5py.ExternalLink("/etc/hostname", "/x")


def _soft_link(file: h5py.File) -> None:
    del file["metrics"]
    file["metrics"] = h5py.SoftLink("/epochs")


def _external_storage(file: h5py.File) -> None:
    outside = [("/etc/passwd", 0, 400)]
    _replace(file, "metrics/loss", shape=(50,), dtype="f8", external=outside)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((50,), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (50,))
    del file["metrics/loss"]
    file.create_virtual_dataset("metrics/loss", layout)


def _huge(file: h5py.File) -> None:
    _replace(file, "metrics/loss", shape=(1 << 50,), dtype="f8", chunks=(1 << 20,))


def _huge_chunk(file: h5py.File) -> None:
    _replace(file, "metrics/loss", shape=(50,), maxshape=(None,), dtype="f8", chunks=(1 << 28,))


def _compressed(file: h5py.File) -> None:
    _replace(file, "metrics/loss", data=np.zeros(50), compression="gzip")


def _objects(file: h5py.File) -> None:
    _replace(file, "metrics/loss", data=["a"] * 50, dtype=h5py.string_dtype())


def _other_type(file: h5py.File) -> None:
    _replace(file, "metrics/loss", data=np.zeros(50, np.float32))


def _other_shape(file: h5py.File) -> None:
    _replace(file, "metrics/loss", data=np.zeros((50, 1)))


def _shorter(file: h5py.File) -> None:
    _replace(file, "metrics/loss", data=np.arange(49) / 3)


def _missing_column(file: h5py.File) -> None:
    del file["metrics/loss"]


def _missing_meta(file: h5py.File) -> None:
    del file["meta"]


def _group_for_column(file: h5py.File) -> None:
    del file["metrics/loss"]
    file.create_group("metrics/loss")


def _newer(file: h5py.File) -> None:
    _replace(file, "meta/schema_version", data=99)


def _other_seed(file: h5py.File) -> None:
    _replace(file, "meta/seed", data=8)


def _meta_in_a_row(file: h5py.File) -> None:
    _replace(file, "meta/seed", data=[7])


HOSTILE: dict[Callable[[h5py.File], None], str] = {
    _external_link: "links elsewhere",
    _soft_link: "links elsewhere",
    _external_storage: "in other files",
    _virtual: "in other files",
    _huge: "claims .* bytes",
    _huge_chunk: "claims .* bytes",
    _compressed: "filters",
    _objects: "type that no run log has",
    _other_type: "no column of float64",
    _other_shape: "no column of float64",
    _shorter: "damaged log: /metrics, row 49",
    _missing_column: "/metrics/loss is missing",
    _missing_meta: "/meta is missing",
    _group_for_column: "/metrics/loss is no dataset",
    _newer: "schema version 99 is newer",
    _other_seed: "damaged log: /meta",
    _meta_in_a_row: "/meta/seed is no single value",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__.strip("_"))
def test_a_hostile_log_is_refused(
    sealed: Path, tmp_path: Path, change: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "hostile.h5"
    shutil.copy(sealed, path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=f"^{path}: .*{HOSTILE[change]}") as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no HDF5 file"),
        (b"step,loss\n1,2\n", "no HDF5 file"),
        (b"\x89HDF\r\n\x1a\n", "only 8 bytes"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "no log of this program"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(path)


def test_other_hdf5_files_are_refused(tmp_path: Path) -> None:
    for libver in ("earliest", "latest"):
        path = tmp_path / f"{libver}.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file["x"] = 1
        with pytest.raises(InputError, match=r"no log of this program|no run log"):
            read_run(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_run(tmp_path / "none.h5")
    with pytest.raises(InputError, match="a folder"):
        read_run(tmp_path)


def test_an_unknown_table_lists_those_there_are(sealed: Path) -> None:
    with pytest.raises(InputError, match="no table 'metric'; it has metrics, epochs"):
        read_run(sealed).table("metric")
