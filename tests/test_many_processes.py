"""eqprop-run under torchrun: any number of processes, stopped or killed, gives the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from bridge.ranks import TABLE
from bridge.runlog import read_run
from bridge.session import checkpoint_folder
from tests.bioplaus import idx_files
from tests.command_line import call, refused
from tests.many_processes import (
    RUN,
    STEPS_AN_EPOCH,
    command,
    environment,
    kill_one,
    result,
    run,
    wait_for_step,
    workers,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return idx_files.noise(tmp_path_factory.mktemp("data") / "images")


def arguments(images: Path, epochs: int = 2, estimator: str = "vector-field") -> list[str]:
    args = ["eqprop-run", "--dataset", str(images), *RUN, "--epochs", str(epochs)]
    return [*args, "--estimator", estimator, "--check-gradients-every", "4"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "estimator"),
    [
        ([2], "vector-field"),
        *(([2, 4], estimator) for estimator in ("asym-ep", "kolen-pollack")),
    ],
)
def test_any_number_of_processes_gives_the_same_bits(
    images: Path, tmp_path: Path, sizes: list[int], estimator: str
) -> None:
    args = arguments(images, estimator=estimator)
    alone = tmp_path / "1.h5"
    assert call(*args, "--out", alone).exit_code == 0
    expected = result(alone)
    assert {"metrics", "epochs", "gradients", "weights"} <= expected.keys()
    for size in sizes:
        path = tmp_path / f"{size}.h5"
        done = run(size, [*args, "--out", str(path)])
        assert done.returncode == 0, done.stderr
        assert result(path) == expected
        ranks = read_run(path).table(TABLE)
        steps = 2 * STEPS_AN_EPOCH
        assert ranks["step"].tolist() == [s + 1 for s in range(steps) for _ in range(size)]
        assert ranks["rank"].tolist() == list(range(size)) * steps
        assert (ranks["computed"] > 0).all()
        assert (ranks["waited"] > 0).all()


def stop_at(step: int, path: Path, args: list[str]) -> None:
    """Run in two processes until a step, and ask the second one to stop."""
    line = command(2, [*args, "--out", str(path)])
    with subprocess.Popen(
        line, env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for_step(path, step, process)
        os.kill(workers(process.pid)[1], signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode != 0
    assert said.count("stopped by SIGTERM after step") == 1, said
    found = read_run(path)
    assert (found.status, found.sealed) == ("stopped", True)
    assert len(list(checkpoint_folder(path).iterdir())) == 1
    assert read_run(path.with_name("run.rank1.h5")).status == "stopped"


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_any_number_goes_on(
    images: Path, tmp_path: Path
) -> None:
    args, alone, path = arguments(images, 40), tmp_path / "1.h5", tmp_path / "run.h5"
    assert call(*args, "--out", alone).exit_code == 0
    stop_at(20, path, args)
    done = run(4, ["eqprop-run", "--quiet", "--resume", "--out", str(path)])
    assert done.returncode == 0, done.stderr
    assert result(path) == result(alone)
    # what each did before and after
    ranks = read_run(path).table(TABLE)
    assert set(ranks["rank"].tolist()) == {0, 1, 2, 3}
    assert (ranks["rank"][ranks["step"] == 1]).tolist() == [0, 1]


@pytest.mark.slow
def test_a_signal_to_torchrun_itself_stops_all_though_stdout_is_closed(
    images: Path, tmp_path: Path
) -> None:
    """As a scheduler sends it, and as a service runs it."""
    args, alone, path = arguments(images, 20), tmp_path / "1.h5", tmp_path / "run.h5"
    args.remove("--quiet")
    assert call(*args, "--out", alone).exit_code == 0
    line = ["bash", "-c", 'exec "$@" >&-', "-", *command(2, [*args, "--out", str(path)])]
    with subprocess.Popen(line, env=environment(), text=True, stderr=subprocess.PIPE) as process:
        wait_for_step(path, 10, process)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode != 0
    assert said.count("stopped by SIGTERM after step") == 1, said
    assert read_run(path).status == "stopped"
    assert len(list(checkpoint_folder(path).iterdir())) == 1
    done = run(2, ["eqprop-run", "--quiet", "--resume", "--out", str(path)])
    assert done.returncode == 0, done.stderr
    assert result(path) == result(alone)


@pytest.mark.slow
def test_a_language_model_goes_on_in_as_many_processes(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "{text}"}}\n' for text in ("a", "b a", "c", "a b")))
    args = ["nash-md", "--model", "tiny:a,b,c,<end>", "--prompts", str(prompts), "--quiet"]
    args += ["--preference", "tests.trainers:longer_wins", "--iterations", "60", "--seed", "3"]
    args += ["--set", "batch_size=2", "--set", "generation.max_new_tokens=2"]
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    done = run(2, [*args, "--out", str(whole)])
    assert done.returncode == 0, done.stderr
    stop_at(10, path, args)
    alone = call("nash-md", "--model", "tiny:a,b,c,<end>", "--resume", "--out", path)
    assert refused(alone, "made on processes=2, but this is 1", "go on in as many")
    done = run(
        2, ["nash-md", "--model", "tiny:a,b,c,<end>", "--quiet", "--resume", "--out", str(path)]
    )
    assert done.returncode == 0, done.stderr
    assert result(path) == result(whole)


@pytest.mark.slow
def test_a_killed_process_starts_all_again_from_the_last_checkpoint(
    images: Path, tmp_path: Path
) -> None:
    args, alone, path = arguments(images, 40), tmp_path / "1.h5", tmp_path / "run.h5"
    assert call(*args, "--out", alone).exit_code == 0
    more = [*args, "--checkpoint-every", "25"]
    kill_one(path, more, 2, 40 * STEPS_AN_EPOCH, random.Random(0))
    assert result(path) == result(alone)


@pytest.mark.slow
def test_a_file_where_a_process_would_write_is_left_alone(images: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run.rank1.h5"
    mine.write_bytes(b"mine")
    done = run(2, [*arguments(images), "--out", str(tmp_path / "run.h5")])
    assert done.returncode != 0
    # the rest is torchrun's
    ours = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert any(line.startswith(f"error in process 1: {mine}: exists") for line in ours)
    assert mine.read_bytes() == b"mine"


def test_what_processes_cannot_do_is_refused_in_a_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert refused(call(*arguments(images)), "--max-restarts needs --out FILE.h5")
    assert refused(call(*arguments(images), "--seeds", "0..1"), "leave torchrun out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(call("nash-md"), "nash-md runs in one process here; leave torchrun out")
    assert list(tmp_path.iterdir()) == []
