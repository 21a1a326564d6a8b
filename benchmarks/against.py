"""CPU time of an update in this checkout relative to another checkout of the project.

    python benchmarks/against.py DIR [--only WORD] [--rounds N]

DIR is another checkout, for example from `git worktree add DIR COMMIT`. Each checkout runs in a
process of its own, on one thread and the same core, with the cases `fixed` and `converged` of
`engine.py`. The two take turns of a few updates each, so that a machine whose speed drifts slows
down both. The result is the ratio of their CPU times (median over the turns, quartiles), and that
of backpropagation to either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SMALL, DEEP = [784, 512, 10], [784, 512, 512, 512, 10]
UPDATES = 4
"""Number of updates in a turn."""


def cases() -> Iterator[tuple[str, list[int], list[str], int]]:
    """Name, layer sizes, settings and images learnt of each case, as in `engine.cases`."""
    fixed = ["phases.tolerance=0", "phases.free_steps=30", "phases.nudged_steps=10"]
    settled = ["phases.tolerance=1e-3", "phases.free_steps=100", "phases.nudged_steps=100"]
    for solver in ("sweeps", "euler"):
        for nudging in ("centered", "one-sided"):
            sets = [*fixed, f"phases.solver={solver}", f"estimator.nudging={nudging}"]
            yield f"fixed 784-512-10 {solver} {nudging}", SMALL, sets, 0
    for angle, gain in ((90.0, 0.3), (0.0, 0.2)):
        for trained in (0, 5000):
            sets = [*settled, f"network.angle={angle}", f"network.feedback_gain={gain}"]
            name = f"converged 784-512-512-512-10, {angle:g} degrees, {trained} images learnt"
            yield name, DEEP, sets, trained


def serve(checkout: Path, name: str) -> None:
    """Answer each number read with the seconds that so many updates take; backprop if negative."""
    sys.path[:0] = [str(checkout), str(checkout / "benchmarks")]
    import engine
    import torch

    torch.set_num_threads(1)

    def answer(ours: Callable[[], None], theirs: Callable[[], None], *_more: int) -> dict:
        for step in (ours, theirs) * 5:
            step()
        print("ready", flush=True)
        for line in sys.stdin:
            step, count = (ours, int(line)) if int(line) > 0 else (theirs, -int(line))
            began = time.process_time()
            for _ in range(count):
                step()
            print(time.process_time() - began, flush=True)
        raise SystemExit

    engine.ratio = answer
    _, sizes, sets, trained = next(each for each in cases() if each[0] == name)
    engine.case(sizes, sets, trained, 1, 1)


class Checkout:
    """A process that takes updates of one case in one checkout."""

    def __init__(self, path: Path, name: str) -> None:
        """Start it, and wait until it has built its network."""
        command = [sys.executable, __file__, str(path), "--serve", name]
        env, pipe = {**os.environ, "OMP_NUM_THREADS": "1"}, subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=path, env=env, stdin=pipe, stdout=pipe, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.asks, self.answers = self.process.stdin, self.process.stdout
        while (line := self.answers.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"{path} did not run the case: {name}")

    def take(self, count: int) -> float:
        self.asks.write(f"{count}\n")
        self.asks.flush()
        return float(self.answers.readline())

    def close(self) -> None:
        self.asks.close()
        self.process.wait()


def compare(paths: tuple[Path, Path], name: str, rounds: int) -> str:
    """One line on a case: the ratio of the second checkout to the first, and both to backprop."""
    both = [Checkout(path, name) for path in paths]
    turns = []
    for k in range(rounds):
        order = both if k % 2 == 0 else both[::-1]
        took = {each: each.take(UPDATES) for each in order}
        turns.append((*(took[each] for each in both), both[0].take(-UPDATES)))
    for each in both:
        each.close()
    low, middle, high = statistics.quantiles((b / a for a, b, _ in turns), n=4)
    first, second = (statistics.median(turn[k] / turn[2] for turn in turns) for k in (0, 1))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})  to backprop: {first:.2f} -> {second:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="the other checkout, compared with this one")
    parser.add_argument("--only", metavar="WORD", default="", help="cases whose name begins so")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--serve", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.checkout.resolve(), arguments.serve)
        return
    if hasattr(os, "sched_setaffinity"):  # the processes take turns, so they share a core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    paths = (arguments.checkout.resolve(), Path(__file__).resolve().parents[1])
    middles = []
    for name, *_ in cases():
        if name.startswith(arguments.only):
            found = compare(paths, name, arguments.rounds)
            middles.append(float(found.split()[0]))
            print(f"{name:62} {found}", flush=True)
    print(f"geometric mean {statistics.geometric_mean(middles):.3f}")


if __name__ == "__main__":
    main()
