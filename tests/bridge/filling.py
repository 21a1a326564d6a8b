"""Run into full disks and check what the runs leave; started as a separate process.

    python -m tests.bridge.filling FOLDER RUNS limit|disk [SEED]

prints a JSON object of counts. `limit`: no file can grow beyond a size, whatever the free space.
`disk`: a small file system in memory, which only root can mount; in half of the runs another file
fills the rest of it meanwhile. Half of the runs write only a log, half also checkpoints.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import torch

from bridge.errors import StorageError
from bridge.runlog import read_run, recover
from bridge.session import checkpoint_folder, tidy
from tests.bridge.killing import Say, Told
from tests.bridge.records import new_log, row
from tests.bridge.sessions import MAX_STEPS, Plan, check, truth

DISK = 8 << 20
# Opening a log takes 0.3 MB; a checkpoint takes 0.3 MB, and up to three exist at a time. A whole
# run with long notes takes 3.2 MB, and sealing it another 1.1 MB: less than the growing log, so
# that no limit on the size of files can refuse only the sealing.
ROOM = {
    "limit": {
        "opening": (0, 250_000),
        "rows": (310_000, 1_500_000),
        "checkpoint": (246_000, 262_000),
    },
    "disk": {
        "opening": (0, 250_000),
        "rows": (320_000, 1_500_000),
        "meanwhile": (0, 1),
        "checkpoint": (320_000, 900_000),
        "sealing": (3_250_000, 4_100_000),
    },
}
REFUSED = {"checkpoint": "a checkpoint", "sealed": "sealing", "written": "rows or weights"}
"""The error line, and what had no space."""


@contextlib.contextmanager
def small_disk(folder: Path, size: int = DISK) -> Iterator[Path]:
    """Mount an in-memory file system of the given size under a folder.

    Raises:
        OSError, CalledProcessError: the system does not support it, or the user is not allowed to.
    """
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    mounted_by = os.getpid()
    try:
        yield place
    finally:
        if os.getpid() == mounted_by:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@cache
def can_mount() -> bool:
    """Whether this user can mount a small disk here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def take_room(disk: Path, leave: int = 0) -> None:
    """Fill a disk with another file, leaving the given number of bytes."""
    with (disk / "other").open("ab") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave
        if free > 0:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)


def write(path: Path, say: Say) -> None:
    """Write a log without end."""
    weights = {"w": np.zeros(10)}
    with new_log(path, weights=weights) as log:
        for step in range(10**6):
            log.log("metrics", row(step))
            say("row", step)
            if step % 700 == 0:
                log.event("note", text="x" * 700)
                log.save_weights(step, {"w": weights["w"] + step})
                say("weights", step)


def check_log(path: Path, told: dict[str, int]) -> None:
    """Check that every acknowledged row and all acknowledged weights are there."""
    run = read_run(path)
    steps = run.table()["step"].tolist()
    assert steps == list(range(len(steps)))
    assert len(steps) > told.get("row", -1)
    assert run.table()["loss"].tolist() == [row(step).loss for step in steps]
    assert not run.dropped
    assert run.state == "failed"
    if "weights" in told:
        step, weights = run.weights()
        assert step >= told["weights"]
        assert weights["w"].tolist() == [step] * 10


class Filling:
    """Runs on one disk, one after another."""

    def __init__(self, folder: Path, kind: str, random_: random.Random) -> None:
        """Take a folder, on a small disk or on a large one."""
        self._folder = folder
        self._small = kind == "disk"
        self._random = random_

    def fill(self, checkpoints: bool) -> str:
        """Run into the full disk once, check, free space, resume; give what the disk refused."""
        path = self._folder / "run.h5"
        random_ = self._random
        aim, room = self._aim(checkpoints)
        keep = {"checkpoint": MAX_STEPS + 1, "sealing": MAX_STEPS}.get(
            aim, random_.randrange(1, 20)
        )
        note = 0 if aim == "checkpoint" else 20_000
        plan = Plan(path, MAX_STEPS, random_.randrange(1, 9), keep, note)
        meanwhile = random_.randrange(1, 30 if checkpoints else 3000) if aim == "meanwhile" else -1
        if self._small and meanwhile < 0:
            take_room(self._folder, room)

        def work(say: Say) -> None:
            if not self._small:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

            def say_and_take(what: str, step: int) -> None:
                say(what, step)
                if (what, step) == ("row", meanwhile):
                    take_room(self._folder)

            if checkpoints:
                plan.run(say_and_take)
            else:
                write(path, say_and_take)

        pid, pipe = _fork_program(work, self._folder.parent / "said")
        last = Told(pipe).last()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = (self._folder.parent / "said").read_text()
        assert (code, said.count("\n")) == (74, 1), (code, said)
        assert said.startswith(f"{path}")
        opened = path.exists()
        assert opened or not last
        if opened:
            self._look(plan, last, checkpoints)
        assert {each.name for each in self._folder.iterdir()} <= {"other"}
        (self._folder / "other").unlink(missing_ok=True)
        if not opened:
            return "opening"
        return next(what for word, what in REFUSED.items() if word in said)

    def _aim(self, checkpoints: bool) -> tuple[str, int]:
        """Choose what the disk is to refuse, and how many bytes of space that takes."""
        aims = ROOM["disk" if self._small else "limit"]
        chosen = [each for each in aims if checkpoints or each in ("opening", "rows", "meanwhile")]
        aim = self._random.choice(chosen)
        return aim, self._random.randrange(*aims[aim])

    def _look(self, plan: Plan, told: dict[str, int], checkpoints: bool) -> None:
        path = plan.path
        for _ in range(2):
            if checkpoints:
                check(read_run(path), told)
            else:
                check_log(path, told)
            (self._folder / "other").unlink(missing_ok=True)
            recover(path)
        with h5py.File(path) as file:
            assert len(file["metrics/step"]) > told.get("row", -1) - checkpoints
        if checkpoints:
            if read_run(path).status == "finished":  # but it was not sealed
                tidy(path)
            else:
                plan.run(lambda what, step: None)
            assert check(read_run(path), {"row": MAX_STEPS}) == MAX_STEPS
            assert not checkpoint_folder(path).exists()
        path.unlink()


def _fork_program(work: Callable[[Say], None], output: Path) -> tuple[int, int]:
    """Start a child that ends like a command, with its interpreter; see `killing.fork`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    with output.open("w") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    # Beyond the limit a write must fail with an error, as in Python.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        work(lambda what, step: os.write(writing, f"{what}{step}\n".encode()) and None)
    except StorageError as error:
        print(error, file=sys.stderr)
        sys.exit(74)
    sys.exit(0)


def main() -> None:
    """Fill the disk the given number of times, and print what was refused."""
    folder, runs, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    random_ = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    torch.set_num_threads(1)
    new_log(folder / "first.h5").close()  # collects facts that forks inherit
    (folder / "first.h5").unlink()
    truth()
    refused: Counter[str] = Counter()
    with small_disk(folder) if kind == "disk" else contextlib.nullcontext(folder / "disk") as disk:
        disk.mkdir(exist_ok=True)
        filling = Filling(disk, kind, random_)
        for i in range(runs):
            refused[filling.fill(checkpoints=i % 2 == 1)] += 1
    print(json.dumps({"runs": runs, "refused": refused}))


if __name__ == "__main__":
    main()
