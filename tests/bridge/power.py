"""Cut the power at any moment, as SQLite's tests do, and read what may be left on the disk.

    python -m tests.bridge.power FOLDER STATES [SEED] [--without]

runs four small programs under a shim that records their requests to write to the disk: a log that
is opened, grows and is sealed; a run with checkpoints; the index of a sweep; a saved model. It then
rebuilds, in FOLDER, so many states that a power cut may leave (see `tests.bridge.disk`), and reads
each. Prints a JSON object of counts. With --without, each kind of forcing is omitted in turn, and
it prints how many states it took to detect the damage.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bridge.disk import make_folders
from bridge.runlog import liveness, read_run, recover
from tests.bridge.disk import Call, Choice, Disk, calls, general, kinds_of_forcing
from tests.bridge.records import new_log, row, weights_of

SAID = ".said"
"""The file in which a program records what the disk has promised to keep."""
_SOURCE = Path(__file__).with_name("recorded_calls.c")
ROWS = 1300


def _say(folder: Path, **told: Any) -> None:
    with (folder / SAID).open("ab", buffering=0) as file:
        file.write(json.dumps(told).encode() + b"\n")


def write_log(folder: Path) -> None:
    """Write a log, in a folder created for it, and record what was forced."""
    liveness.HEARTBEAT_SECONDS = 1e9
    notes = saved = -1
    with new_log(folder / "new" / "runs" / "run.h5") as log:
        _say(folder, rows=0)
        for step in range(ROWS):
            log.log("metrics", row(step))
            if step % 90 == 40:
                log.event("note", step=step, text="x" * 1500)
                notes = step
            if step % 100 == 50:
                log.save_weights(step, weights_of(step))
                saved = step
            if step % 70 == 69:
                log.sync()
                _say(folder, rows=step + 1, notes=notes, weights=saved)
    _say(folder, rows=ROWS, notes=notes, weights=saved, sealed=True)


def check_log(folder: Path, told: Mapping[str, Any]) -> None:
    """Check a log: nothing that was forced before the cut is missing or wrong."""
    path = folder / "new" / "runs" / "run.h5"
    if not told and not path.exists():
        return
    n = _check_rows(path, told)
    # Only now and then, to leave time for more states.
    if random.random() < 0.03:
        recover(path)
        assert _check_rows(path, told) == n
        with h5py.File(path) as file:
            assert file["metrics/step"][:].tolist() == list(range(n))  # type: ignore[index]


def _check_rows(path: Path, told: Mapping[str, Any]) -> int:
    run = read_run(path)
    assert run.sealed or not told.get("sealed")
    metrics = run.table()
    n = len(metrics["step"])
    assert n >= told.get("rows", 0), f"{n} rows of {told}"
    assert metrics["step"].tolist() == list(range(n))
    assert metrics["loss"].tolist() == [step / 3 for step in range(n)]
    assert metrics["converged"].tolist() == [step % 3 == 0 for step in range(n)]
    assert metrics["phase"].tolist() == ["nudged" if step % 2 else "free" for step in range(n)]
    notes = [event["step"] for event in run.events if event["kind"] == "note"]
    assert notes == list(range(40, 40 + 90 * len(notes), 90))
    assert max(notes, default=-1) >= told.get("notes", -1)
    if told.get("weights", -1) >= 0 and random.random() < 0.25:
        step, weights = run.weights()
        assert step >= told["weights"], f"weights of {step}, {told}"
        assert all(np.array_equal(weights[name], w) for name, w in weights_of(step).items())
    return n


def write_checkpoints(folder: Path) -> None:
    """Train a small run with checkpoints, and record which are there."""
    import torch

    from bridge.checkpoint import save_checkpoint

    place = folder / "run.h5.checkpoints"
    for step in range(1, 6):
        state = {"sum": torch.full((300,), float(step)), "rows": list(range(step))}
        save_checkpoint(place, step, state, {"rows": {"metrics": step}})
        _say(folder, step=step)


def check_checkpoints(folder: Path, told: Mapping[str, Any]) -> None:
    """Check that the newest checkpoint is complete, and not older than was recorded."""
    from bridge.checkpoint import checkpoints, load_checkpoint

    found = checkpoints(folder / "run.h5.checkpoints")
    if not told and not found:
        return
    newest = load_checkpoint(found[0])
    assert newest.step >= told.get("step", 0), f"{newest.step}, {told}"
    assert newest.state["sum"].tolist() == [float(newest.step)] * 300
    assert newest.state["rows"] == list(range(newest.step))


def write_index(folder: Path) -> None:
    """Write a sweep's index again and again."""
    from bridge.disk import replace_file

    for number in range(1, 8):
        runs = [{"log": f"{i}.h5", "point": {"seed": i}, "note": "x" * 300} for i in range(number)]
        replace_file(folder / "index.json", json.dumps({"runs": runs}).encode())
        _say(folder, runs=number)


def check_index(folder: Path, told: Mapping[str, Any]) -> None:
    """Check that the index is complete, and not older than was recorded."""
    from bridge.sweep.index import read_index

    found = read_index(folder)
    assert len(found) >= told.get("runs", 0), f"{len(found)}, {told}"
    assert list(found) == [f"{i}.h5" for i in range(len(found))]


def write_model(folder: Path) -> None:
    """Save a model as the commands do, in a folder created for it."""
    import torch
    from safetensors.torch import save

    from bioplaus_cli.folders import new_folder

    target = folder / "new" / "model"
    with new_folder(target, overwrite=False) as temporary:
        (temporary / "tokens").mkdir()
        (temporary / "tokens" / "vocabulary.json").write_text(json.dumps(list(range(900))))
        # safetensors' `save_file` renames by system calls that the shim does not see.
        (temporary / "model.safetensors").write_bytes(save({"w": torch.arange(3000.0)}))
        (temporary / "config.json").write_text("{}")
    _say(folder, saved=True)


def check_model(folder: Path, told: Mapping[str, Any]) -> None:
    """Check that the model is complete, or not there at all."""
    import torch
    from safetensors.torch import load_file

    target = folder / "new" / "model"
    if not told and not target.exists():
        return
    assert json.loads((target / "tokens" / "vocabulary.json").read_text()) == list(range(900))
    assert torch.equal(load_file(target / "model.safetensors")["w"], torch.arange(3000.0))
    assert (target / "config.json").read_text() == "{}"


@dataclass(frozen=True)
class Program:
    """A program, the check of the states that it may leave, and its share of all states."""

    run: Callable[[Path], None]
    check: Callable[[Path, Mapping[str, Any]], None]
    share: float


PROGRAMS = {
    "log": Program(write_log, check_log, 0.7),
    "checkpoint": Program(write_checkpoints, check_checkpoints, 0.15),
    "index": Program(write_index, check_index, 0.1),
    "model": Program(write_model, check_model, 0.05),
}


def build(folder: Path) -> Path:
    """Compile the shim.

    Raises:
        OSError, CalledProcessError: there is no compiler for it.
    """
    library = folder / "recorded_calls.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def record(name: str, library: Path, folder: Path) -> list[Call]:
    """Run a program, and give its requests to the disk.

    Raises:
        AssertionError: the calls do not reproduce the files on the disk.
    """
    place, trace = folder / f"{name}.disk", folder / f"{name}.trace"
    make_folders(place)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWER_FOLDER": str(place),
        "POWER_TRACE": str(trace),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.bridge.power", "--program", name, str(place)]
    subprocess.run(command, check=True, env=environment)
    found = calls(trace, place)
    disk = Disk()
    for call in found:
        disk.do(call)
    target = folder / "whole"
    disk.leave(target, Choice("everything", 4096, random.Random(0)))
    assert _files(target) == _files(place), f"{name}: not every call was seen"
    shutil.rmtree(target)
    return found


def _files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check_states(
    name: str, trace: list[Call], folder: Path, states: int, seed: int, without: str = ""
) -> tuple[Counter[str], str]:
    """Rebuild and read states of one program.

    Args:
        name: of the program.
        trace: its requests to the disk.
        folder: where the states are rebuilt.
        states: number of states.
        seed: of the random choices.
        without: a kind of forcing that is ignored.

    Returns:
        The number of states of each kind, and the error in the first bad one, "" if there is none.
    """
    random_ = random.Random(f"{name} {seed}")
    edges = _edges(trace)
    # Half of the cuts are anywhere, the others near calls that force something or create a name.
    moments = sorted(
        random_.choice(random_.choice(edges))
        if random_.random() < 0.5
        else random_.randrange(len(trace) + 1)
        for _ in range(-(-states // 4))
    )
    disk, done, told, counts = Disk(), 0, {}, Counter()
    state, said = folder / "state", _said(trace)
    for moment in moments:
        for call in trace[done:moment]:
            if call.kind == "W" and call.inode == said:
                told = json.loads(call.data)
            elif not (call.kind == "F" and without and general(call.name) == without):
                disk.do(call)
        done = max(done, moment)
        for _ in range(4):
            kind, page = random_.choice(Choice.KINDS), random_.choice((512, 4096))
            shutil.rmtree(state, ignore_errors=True)
            disk.leave(state, Choice(kind, page, random_))
            counts[kind] += 1
            try:
                PROGRAMS[name].check(state, told)
            except Exception as error:
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                return counts, f"call {moment}, {kind}, pages of {page}, told {told}: {why}"
            if counts.total() >= states:
                return counts, ""
    return counts, ""


def _edges(trace: list[Call]) -> list[list[int]]:
    """The moments around calls that are not writes, grouped by kind."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, call in enumerate(trace):
        if call.kind in "FRLUND":
            found.setdefault((call.kind, general(call.name)), []).extend((i, i + 1))
    return list(found.values())


def _said(trace: list[Call]) -> int:
    return next((call.inode for call in trace if call.kind == "N" and call.name == SAID), -1)


def main() -> None:
    """Check the given number of states and print the counts."""
    if sys.argv[1] == "--program":
        PROGRAMS[sys.argv[2]].run(Path(sys.argv[3]))
        return
    folder, states = Path(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if sys.argv[3:] and sys.argv[3].isdigit() else 0
    library = build(folder)
    found: dict[str, Any] = {}
    for name, program in PROGRAMS.items():
        trace = record(name, library, folder)
        if "--without" in sys.argv:
            for kind in kinds_of_forcing(trace):
                counts, wrong = check_states(name, trace, folder, states, seed, kind)
                found[f"{name} without {kind}"] = {"states": counts.total(), "found": wrong}
                print(name, "without", kind, counts.total(), wrong, file=sys.stderr, flush=True)
            continue
        counts, wrong = check_states(name, trace, folder, round(states * program.share), seed)
        found[name] = {"calls": len(trace), "states": counts.total(), **counts}
        print(name, counts.total(), wrong or "sound", file=sys.stderr, flush=True)
        if wrong:
            sys.exit(f"{name}: {wrong}")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
