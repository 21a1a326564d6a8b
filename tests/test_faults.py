"""Other faults of a machine, each once: the run ends in one line, and can be resumed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bridge.runlog import read_run, reopening
from bridge.runlog.provenance import provenance
from bridge.session import Session, checkpoint_folder
from tests import many_processes
from tests.bridge.filling import can_mount
from tests.command_line import call
from tests.resuming import command, end_at, fingerprint, same_as

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

RUN = ["nash-md", "--quiet", "--game", "rock-paper-scissors", "--iterations", 10, "--seed", 3]
RUN += ["--set", "votes=5", "--set", "log_every=3", "--checkpoint-every", 1]
NOBODY = 65534


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    provenance()  # git is asked once, before the forks
    assert command([*RUN, "--out", path]) == 0
    return fingerprint(read_run(path))


def goes_on(path: Path, reference: dict[str, str]) -> bool:
    assert command([*RUN, "--out", path, "--resume"]) == 0
    return same_as(path, reference)


def at_step(step: int, act: Callable[[], object]) -> Callable[[], None]:
    """Make the child do something just before a step counts as done."""

    def patch() -> None:
        original = Session.after_step

        def after_step(self: Session, at: int, snapshot: Callable[[], object] | None) -> None:
            if at == step:
                act()
            original(self, at, snapshot)

        Session.after_step = after_step  # type: ignore[method-assign]

    return patch


def failing_fsync(number: int) -> Callable[[], None]:
    """Make every fsync of the child fail from this one on, as a broken disk does."""

    def patch() -> None:
        original, asked = os.fsync, 0

        def fsync(fd: int) -> None:
            nonlocal asked
            asked += 1
            if asked >= number:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            original(fd)

        os.fsync = fsync

    return patch


@pytest.mark.parametrize(
    "numbers", [(2, 9, 30), pytest.param(range(1, 110, 9), marks=pytest.mark.slow)]
)
def test_a_disk_that_fails_to_sync(
    tmp_path: Path, reference: dict[str, str], numbers: tuple[int, ...]
) -> None:
    codes = []
    for number in numbers:
        path = tmp_path / f"{number}.h5"
        codes.append(command([*RUN, "--out", path], failing_fsync(number)))
        assert goes_on(path, reference)
    assert set(codes) <= {0, 74}
    assert 74 in codes


@contextmanager
def few_inodes(place: Path, number: int) -> Iterator[Path]:
    place.mkdir()
    options = f"size=16m,nr_inodes={number}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
@pytest.mark.parametrize("numbers", [(3, 6), pytest.param(range(2, 10), marks=pytest.mark.slow)])
def test_a_disk_without_inodes(
    tmp_path: Path, reference: dict[str, str], numbers: tuple[int, ...]
) -> None:
    codes = []
    for number in numbers:
        with few_inodes(tmp_path / f"disk{number}", number) as disk:
            path = disk / "run.h5"
            codes.append(command([*RUN, "--out", path]))
            subprocess.run(["mount", "-o", "remount,nr_inodes=1000", disk], check=True)
            assert codes[-1] == 0 or goes_on(path, reference)
    assert set(codes) <= {0, 74}
    assert 74 in codes


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root becomes nobody")
def test_the_right_to_write_is_lost_midway(tmp_path: Path, reference: dict[str, str]) -> None:
    path = tmp_path / "run.h5"

    def become_nobody() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    assert command([*RUN, "--out", path], at_step(5, become_nobody)) == 74
    assert len(read_run(path).table()["step"])
    assert goes_on(path, reference)


def test_a_clock_that_goes_back(tmp_path: Path, reference: dict[str, str]) -> None:
    path, now = tmp_path / "run.h5", time.time

    def back() -> None:
        time.time = lambda: now() - 86400.0

    assert command([*RUN, "--out", path], at_step(5, back)) == 0
    assert same_as(path, reference)
    assert "finished" in call("runs", "list", tmp_path).output


def test_want_of_memory(tmp_path: Path, reference: dict[str, str]) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "run.h5"

    def starve() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.empty(256 << 20, dtype=torch.uint8)

    assert command([*RUN, "--out", path], at_step(5, starve)) == 1
    assert read_run(path).status == "failed"
    assert goes_on(path, reference)


def test_elsewhere_and_with_another_torch(tmp_path: Path, reference: dict[str, str]) -> None:
    path, moved = tmp_path / "run.h5", tmp_path / "elsewhere" / "other.h5"
    assert command([*RUN, "--out", path], end_at(5, signal.SIGKILL, True)) == -signal.SIGKILL
    moved.parent.mkdir()
    path.rename(moved)
    checkpoint_folder(path).rename(checkpoint_folder(moved))

    def other_torch() -> None:
        here = provenance()
        packages = json.loads(str(here["packages"])) | {"torch": "2.6.0"}
        reopening.provenance = lambda: {**here, "packages": json.dumps(packages)}

    assert command([*RUN, "--out", moved, "--resume"], other_torch) == 0
    assert same_as(moved, reference)
    (event,) = [each for each in read_run(moved).events if each["kind"] == "resumed"]
    assert json.loads(event["other"]["packages"]["is"])["torch"] == "2.6.0"


@pytest.mark.slow
def test_an_exception_in_one_of_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    prompts, flag = tmp_path / "prompts.jsonl", tmp_path / "fail"
    prompts.write_text("".join(f'{{"prompt": "{text}"}}\n' for text in ("a", "b a", "c", "a b")))
    (tmp_path / "moody.py").write_text(
        "import os, torch\nasked = 0\n"
        "def judge(prompts, a, b):\n"
        "    global asked\n    asked += 1\n"
        f"    if os.path.exists({str(flag)!r}) and asked > 4 and os.environ['RANK'] == '1':\n"
        "        raise ValueError('no mood')\n"
        "    longer = [(len(x) > len(y)) - (len(x) < len(y)) for x, y in zip(a, b)]\n"
        "    return 0.5 + 0.4 * torch.tensor(longer, dtype=torch.float64)\n"
    )
    monkeypatch.chdir(tmp_path)
    args = ["nash-md", "--model", "tiny:a,b,c,<end>", "--prompts", str(prompts), "--quiet"]
    args += ["--preference", "moody:judge", "--iterations", "8", "--seed", "3"]
    args += ["--set", "batch_size=2", "--set", "generation.max_new_tokens=2"]
    args += ["--checkpoint-every", "1"]
    whole, path = tmp_path / "whole" / "run.h5", tmp_path / "run.h5"
    done = many_processes.run(2, [*args, "--out", str(whole)])
    assert done.returncode == 0, done.stderr
    flag.touch()
    done = many_processes.run(2, [*args, "--out", str(path)])
    assert done.returncode != 0
    assert "no mood" in done.stderr
    assert read_run(path).state != "finished"
    flag.unlink()
    done = many_processes.run(2, [*args, "--out", str(path), "--resume"])
    assert done.returncode == 0, done.stderr
    assert many_processes.result(path) == many_processes.result(whole)
