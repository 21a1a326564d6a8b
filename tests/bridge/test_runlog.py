"""The run log: what is written is read back, and invalid records are refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import torch

from bridge import RunLog
from bridge.config import Config
from bridge.errors import InputError, LogGone, RunFailed
from bridge.runlog import check_new_log, default_path, open_run, read_run
from tests.bridge.records import Epoch, Step, new_log, row, sealed_log, weights_of


class Settings(Config):
    rate: float = 0.5
    sizes: tuple[int, ...] = (3, 2)


def test_rows_come_back(tmp_path: Path) -> None:
    run = read_run(sealed_log(tmp_path / "run.h5"))
    metrics = run.table()
    assert metrics["step"].tolist() == list(range(20))
    assert metrics["loss"].tolist() == [step / 3 for step in range(20)]
    assert metrics["converged"].tolist() == [step % 3 == 0 for step in range(20)]
    assert metrics["phase"].tolist() == ["free", "nudged"] * 10
    assert run.table("epochs")["error"].tolist() == [2.5]
    assert run.status == "finished"
    assert run.sealed
    assert not run.alive


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1000])
def test_any_number_of_rows_comes_back_while_written_and_after(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "run.h5"
    with new_log(path) as log:
        for step in range(rows):
            log.log("metrics", row(step))
        growing = read_run(path)
    for run in (growing, read_run(path)):
        assert run.table()["loss"].tolist() == [step / 3 for step in range(rows)]
    assert growing.alive
    assert not growing.sealed


def test_events_of_any_length_come_back(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        log.event("short")
        log.event("long", text="ü" * 5000, path=tmp_path)
    short, long = read_run(tmp_path / "run.h5").events
    assert short["kind"] == "short"
    assert long["text"] == "ü" * 5000
    assert long["path"] == str(tmp_path)
    assert short["time"] <= long["time"]


def test_the_newest_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with new_log(path) as log:
        with pytest.raises(InputError, match="log without weights"):
            read_run(path).weights()
        for step in (0, 3, 3, 8):
            log.save_weights(step, weights_of(step))
            assert read_run(path).weights()[0] == step
    step, weights = read_run(path).weights()
    assert step == 8
    assert {name: (t.dtype, t.tolist()) for name, t in weights.items()} == {
        name: (t.dtype, t.tolist()) for name, t in weights_of(8).items()
    }


def test_weights_may_be_tensors_of_any_shape(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "turned": torch.eye(3)[:2].T,
    }
    with new_log(tmp_path / "run.h5", weights=tensors) as log:
        log.save_weights(1, tensors)
    _, weights = read_run(tmp_path / "run.h5").weights()
    for name, tensor in tensors.items():
        assert np.array_equal(weights[name], tensor.numpy())


def test_large_weights_are_cut_into_chunks(tmp_path: Path) -> None:
    large = {"w": np.arange(700_000, dtype=np.float32).reshape(700, 1000)}
    with new_log(tmp_path / "run.h5", weights=large) as log:
        log.save_weights(1, large)
    assert np.array_equal(read_run(tmp_path / "run.h5").weights()[1]["w"], large["w"])


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log, pytest.raises(ValueError, match="not those"):
        log.save_weights(1, {"bias": np.zeros(4)})
    with (
        new_log(tmp_path / "none.h5", weights=None) as log,
        pytest.raises(ValueError, match="no pl"),
    ):
        log.save_weights(1, {"bias": np.zeros(4)})
    with pytest.raises(InputError, match="log without weights"):
        read_run(tmp_path / "none.h5").weights()


def test_meta_says_where_a_result_comes_from(tmp_path: Path) -> None:
    config = Settings(rate=0.25)
    dataset = {"name": "mnist", "sha256": "ab"}
    with new_log(
        tmp_path / "run.h5", config=config, dataset=dataset, parent="f00", command=["a", "b c"]
    ):
        pass
    run = read_run(tmp_path / "run.h5")
    assert run.config == {"rate": 0.25, "sizes": [3, 2]}
    assert run.meta["command_line"] == "a 'b c'"
    assert run.meta["dataset"] == '{"name": "mnist", "sha256": "ab"}'
    assert run.meta["parent"] == "f00"
    assert run.meta["seed"] == 7
    assert run.meta["pid"] == os.getpid()
    assert run.meta["threads"] == torch.get_num_threads()
    assert f'"torch": "{torch.__version__}"' in run.meta["packages"]
    expected = "schema_version run_id start_time config_sha256 git_commit git_dirty python cpu gpu "
    expected += "deterministic tf32 host platform cpu_count"
    assert set(expected.split()) <= set(run.meta)


def test_the_command_line_is_the_programs_own_by_default(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5"):
        pass
    assert read_run(tmp_path / "run.h5").meta["command_line"] == shlex.join(sys.argv)


def test_a_viewer_finds_the_plot(tmp_path: Path) -> None:
    sealed_log(tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["NX_class"] == "NXroot"
        metrics = file[file.attrs["default"]]
        assert isinstance(metrics, h5py.Group)
        assert metrics.attrs["NX_class"] == "NXdata"
        assert metrics.attrs["signal"] == "loss"
        assert list(metrics.attrs["axes"]) == ["step"]
        assert len(metrics["loss"]) == len(metrics["step"]) == 20
        assert list(metrics["phase"].attrs["names"]) == ["free", "nudged"]
        assert metrics["loss"].fletcher32


def test_numbers_of_numpy_and_torch_are_taken(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        log.log("metrics", Step(np.int64(1), torch.tensor(0.5), np.bool_(True), "free"))  # type: ignore[arg-type]
        log.log("metrics", Step(2, 1, False, "free"))
        log.log("metrics", Step(2, float("nan"), False, "free"))
    assert read_run(tmp_path / "run.h5").table()["loss"][:2].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Step(1.5, 0.5, True, "free"), "step=1.5 is no int"),  # type: ignore[arg-type]
        (Step(2**63, 0.5, True, "free"), "is no int"),
        (Step(1, "0.5", True, "free"), "loss='0.5' is no float"),  # type: ignore[arg-type]
        (Step(1, 0.5, 1, "free"), "converged=1 is no bool"),  # type: ignore[arg-type]
        (Step(1, 0.5, True, "third"), "phase='third' is none of free, nudged"),  # type: ignore[arg-type]
        (Step(0, 0.5, True, "free"), "step 0 comes after step 1"),
    ],
)
def test_values_outside_the_schema_are_refused_and_change_nothing(
    tmp_path: Path, record: Step, message: str
) -> None:
    with new_log(tmp_path / "run.h5") as log:
        log.log("metrics", row(1))
        with pytest.raises(ValueError, match=message):
            log.log("metrics", record)
        log.log("metrics", row(2))
    assert read_run(tmp_path / "run.h5").table()["step"].tolist() == [1, 2]


def test_unknown_tables_and_records_are_refused(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        with pytest.raises(KeyError):
            log.log("metric", row(1))
        with pytest.raises(TypeError, match="takes Step, not Epoch"):
            log.log("metrics", Epoch(1, 1, 0.5))
        with pytest.raises(ValueError, match="must be one of running, finished"):
            log.status = "done"


@dataclass(frozen=True)
class NoStep:
    loss: float


@pytest.mark.parametrize(
    ("name", "record", "error"),
    [
        ("metrics", NoStep, TypeError),
        ("metrics", int, TypeError),
        ("metrics", make_dataclass("Text", [("step", int), ("name", str)]), TypeError),
        ("metrics", make_dataclass("Maybe", [("step", int), ("loss", float | None)]), TypeError),
        ("metrics", make_dataclass("Odd", [("step", int), ("n", Literal[1, 2])]), TypeError),
        ("metrics", make_dataclass("Crc", [("step", int), ("crc", int)]), ValueError),
        ("meta", Step, ValueError),
        ("a/b", Step, ValueError),
        ("..", Step, ValueError),
    ],
)
def test_records_that_no_table_can_hold_are_refused(
    tmp_path: Path, name: str, record: type, error: type[Exception]
) -> None:
    with pytest.raises(error):
        open_run(tmp_path / "run.h5", tables={name: record}, config={}, seed=0)
    assert list(tmp_path.iterdir()) == []


def _fail() -> None:
    raise RunFailed("cause")


def test_an_exception_makes_the_run_failed_and_leaves_a_readable_log(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run.h5")
    log.log("metrics", row(1))
    with pytest.raises(RunFailed), log:
        _fail()
    run = read_run(tmp_path / "run.h5")
    assert run.status == "failed"
    assert run.sealed
    assert run.events[-1]["message"] == "cause"
    assert len(run.table()["step"]) == 1


def test_an_interrupt_makes_the_run_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_log(tmp_path / "run.h5"):
        raise KeyboardInterrupt
    assert read_run(tmp_path / "run.h5").status == "stopped"


def test_a_status_that_was_set_stays(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log:
        assert log.status == "running"
        log.status = "failed"
    assert read_run(tmp_path / "run.h5").status == "failed"


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run.h5")
    log.close()
    log.close()
    assert read_run(tmp_path / "run.h5").status == "finished"


def test_an_existing_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"exists; .*--overwrite"):
        new_log(path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_keeps_the_old_file_until_the_new_log_is_there(tmp_path: Path) -> None:
    path = sealed_log(tmp_path / "run.h5")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        new_log(path, overwrite=True, tables={"metrics": NoStep})
    with pytest.raises(ValueError, match="cannot be kept"):
        new_log(path, overwrite=True, weights={"text": np.array(["a"])})
    assert path.read_bytes() == before
    with new_log(path, overwrite=True) as log:
        log.log("metrics", row(5))
    assert read_run(path).table()["step"].tolist() == [5]
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_is_being_written_cannot_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    program = (
        "import sys; from pathlib import Path; from tests.bridge.records import new_log\n"
        "from bridge.errors import InputError\n"
        "try: new_log(Path(sys.argv[1]), overwrite=True)\n"
        "except InputError as error: print(error)"
    )
    with new_log(path) as log:
        with pytest.raises(InputError, match="still being written"):
            new_log(path, overwrite=True)
        other = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        assert f"still being written by process {os.getpid()}" in other.stdout
        log.log("metrics", row(1))
    assert len(read_run(path).table()["step"]) == 1


@pytest.mark.parametrize("place", ["/proc/none/run.h5", "file/run.h5"])
def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written"):
        new_log(tmp_path / place)
    assert (tmp_path / "file").read_text() == "no folder"


def test_what_will_be_refused_can_be_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "run.h5"
    check_new_log(path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        check_new_log(path)
    with pytest.raises(InputError, match="exists"):
        check_new_log(tmp_path / "new")
    check_new_log(tmp_path / "new", overwrite=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        check_new_log(tmp_path / "run.h5")


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder"):
        new_log(tmp_path, overwrite=True)


def test_a_log_replaced_by_someone_is_not_sealed_over_it(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    log = new_log(path)
    os.replace(sealed_log(tmp_path / "other.h5"), path)
    with pytest.raises(LogGone, match="replaced by another file"):
        log.close()
    assert len(read_run(path).table()["step"]) == 20


def test_default_paths_differ_and_name_the_command() -> None:
    first, second = default_path("eqprop-run"), default_path("eqprop-run")
    assert first != second
    assert first.parent == Path("runs")
    assert first.name.startswith("eqprop-run-")
    assert first.suffix == ".h5"


def test_the_log_needs_no_torch() -> None:
    program = "import sys, bridge; assert 'torch' not in sys.modules; print('light')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "light\n"


def test_heartbeats_come_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.runlog.liveness.HEARTBEAT_SECONDS", 0.0)
    synced: list[Any] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd))
    log: RunLog = new_log(tmp_path / "run.h5")
    first = read_run(log.path).heartbeat
    before = len(synced)
    log.log("metrics", row(1))
    assert read_run(log.path).heartbeat > first
    assert len(synced) == before + 1
    log.close()


def test_weights_of_another_run_are_not_taken_for_this_one(tmp_path: Path) -> None:
    run = read_run(sealed_log(tmp_path / "run.h5"))
    with new_log(run.path, overwrite=True) as log:
        log.save_weights(3, weights_of(3))
        with pytest.raises(InputError, match="another run's log has taken the place"):
            run.weights()
    assert read_run(run.path).weights()[0] == 3
