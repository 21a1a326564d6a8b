"""Run the command line in several processes under torchrun, and kill some of them.

    python -m tests.many_processes FOLDER KILLS [SEED]

kills one process of a run KILLS times, each time in a new run, and prints a JSON object of counts.
Each run must end with the rows and weights of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bridge.errors import InputError
from bridge.ranks import TABLE
from bridge.runlog import read_run
from tests.bioplaus import idx_files
from tests.resuming import fingerprint

ROOT = Path(__file__).parents[1]
# Settings with a state: momentum, a schedule, random nudges; batches that are not divisible by 4,
# the last one smaller than the others, and smaller than 4.
RUN = ["--hidden", "8", "--nudging", "random-sign", "--seed", "3", "--quiet"]
RUN += ["--set", "batch_size=19", "--set", "micro_shards=4", "--set", "evaluation_batch=3"]
RUN += ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.003"]
RUN += ["--set", "network.activation=tanh", "--set", "network.coordinates=membrane"]
STEPS_AN_EPOCH = 3


def command(size: int, args: list[str], restarts: int = 0) -> list[str]:
    """A command line that runs in this number of processes."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    many += [f"--max-restarts={restarts}"]
    return [sys.executable, *(many if size > 1 else []), str(ROOT / "cli.py"), *args]


def environment() -> dict[str, str]:
    """Environment variables for one thread per process."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(size: int, args: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command line in this number of processes until it ends."""
    return subprocess.run(command(size, args), env=environment(), capture_output=True, text=True)


def result(path: Path) -> dict[str, str]:
    """The fingerprint of a finished log, without what each process did."""
    found = read_run(path)
    assert (found.status, found.sealed) == ("finished", True)
    left = [each.name for each in path.parent.glob(f"{path.stem}.*") if each != path]
    assert left == []
    return {name: digest for name, digest in fingerprint(found).items() if name != TABLE}


def workers(launcher: int) -> list[int]:
    """The processes that torchrun has started, by rank."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (each / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = [int(v[5:]) for v in variables if v.startswith(b"RANK=")]
        if parent == launcher and ranks:
            found[ranks[0]] = int(each.name)
    return [found[rank] for rank in sorted(found)]


def wait_for_step(path: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a log has the row of a step, or the process has ended."""
    while process.poll() is None:
        try:
            if len(read_run(path).table("metrics")["step"]) >= step:
                return
        except InputError:
            pass
        time.sleep(0.01)


def kill_one(path: Path, args: list[str], size: int, steps: int, random_: random.Random) -> str:
    """Kill one process of a run at a random step; say which it was, and that the run continued."""
    line = command(size, [*args, "--out", str(path)], restarts=3)
    options: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=environment(), text=True, **options) as process:  # type: ignore[call-overload]
        wait_for_step(path, random_.randrange(1, steps - 10), process)
        found = workers(process.pid)
        assert len(found) == size
        rank = random_.randrange(size)
        os.kill(found[rank], signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 0, said
    resumed = [event for event in read_run(path).events if event["kind"] == "resumed"]
    assert len(resumed) == 1, said
    return f"rank {rank} of {size}, {'past a checkpoint' if resumed[0]['step'] else 'before any'}"


def main() -> None:
    """Kill the given number of times, in runs of two and of four processes alternately."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    random_ = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    folder.mkdir(parents=True, exist_ok=True)
    epochs = 60
    args = ["eqprop-run", "--dataset", str(idx_files.noise(folder / "images")), *RUN]
    args += ["--epochs", str(epochs), "--checkpoint-every", "25"]
    alone = folder / "alone.h5"
    done = run(1, [*args, "--out", str(alone), "--overwrite"])
    assert done.returncode == 0, done.stderr
    reference, moments = result(alone), Counter[str]()
    for i in range(kills):
        path = folder / f"killed-{i}.h5"
        moments[kill_one(path, args, (2, 4)[i % 2], epochs * STEPS_AN_EPOCH, random_)] += 1
        assert result(path) == reference
        path.unlink()
        print(f"{i + 1} of {kills} went on", file=sys.stderr, flush=True)
    print(json.dumps({"kills": kills, "equal": sum(moments.values()), "moments": moments}))


if __name__ == "__main__":
    main()
