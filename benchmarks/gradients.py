"""The cost of gradient estimates, and the duration of a whole check.

    python benchmarks/gradients.py [--json]

One process, one thread, real MNIST images, no parameter update.

- `update`: CPU time of one update relative to that of a centered `vector-field` with the same
  number of steps (30 free, 10 nudged), run in turns: median of the ratios and quartiles. Networks
  of one and three hidden layers, in clipped and in membrane coordinates, batch 50.
- `check`: wall time of `check_gradients` on 784-512-512-512-10 with batch 100, every estimator and
  the matrix-free oracle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from bioplaus import LeakyField, Settling, check_gradients
from bioplaus.costs import get_cost, one_hot
from bioplaus.data import load_dataset
from bioplaus.estimators import ESTIMATORS, get_estimator

BATCH = 50
FIXED = Settling(tolerance=0.0, free_steps=30, nudged_steps=10)
COORDINATES = {
    "clipped": {"activation": "hard-sigmoid", "coordinates": "clipped"},
    "membrane": {"activation": "tanh", "coordinates": "membrane"},
}


def network(sizes: list[int], coordinates: str) -> LeakyField:
    """A network with independent feedback weights, weak enough to settle."""
    return LeakyField(
        sizes,
        feedback_gain=0.3,
        generator=torch.Generator().manual_seed(0),
        **COORDINATES[coordinates],
    )


def ratio(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> dict:
    """CPU time of `ours` relative to `theirs`, run in turns."""

    def clock(step: Callable[[], object], repeat: int = 10) -> float:
        began = time.process_time()
        for _ in range(repeat):
            step()
        return (time.process_time() - began) / repeat

    clock(ours), clock(theirs)
    ratios = [clock(ours) / clock(theirs) for _ in range(pairs)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(median, 2), "quartiles": [round(low, 2), round(high, 2)]}


def updates(pairs: int) -> dict[str, dict]:
    """The ratios of all estimators and networks."""
    data, cost = load_dataset("mnist", train_size=BATCH, test_size=1), get_cost("squared-error")
    x, y = data.train.inputs, one_hot(data.train.targets, 10, torch.float32)
    found = {}
    for sizes in ([784, 512, 10], [784, 512, 512, 512, 10]):
        for coordinates in COORDINATES:
            field = network(sizes, coordinates)
            out = {name: torch.empty_like(p) for name, p in field.parameters.items()}

            def step(name: str, field: LeakyField = field, out: dict = out) -> None:
                get_estimator(name)(FIXED)(field, x, y, cost, out=out)

            for name in ESTIMATORS:
                if name == "vector-field" or (name == "holomorphic" and coordinates == "clipped"):
                    continue
                case = f"{name} {'-'.join(map(str, sizes))} {coordinates}"
                found[case] = ratio(
                    lambda name=name, step=step: step(name),
                    lambda step=step: step("vector-field"),
                    pairs,
                )
    return found


def check() -> dict[str, float]:
    """Seconds of one check in each kind of coordinates, and the largest residual of all phases."""
    data = load_dataset("mnist", train_size=100, test_size=1)
    found = {}
    for coordinates in COORDINATES:
        field = network([784, 512, 512, 512, 10], coordinates)
        names = [n for n in ESTIMATORS if coordinates == "membrane" or n != "holomorphic"]
        began = time.perf_counter()
        report = check_gradients(
            field, data.train.inputs, data.train.targets, estimators=names, betas=[0.1]
        )
        found[coordinates] = round(time.perf_counter() - began, 1)
        found[f"{coordinates}, largest residual"] = max(row.residual for row in report.rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {"update": updates(arguments.pairs), "check_seconds": check()}
    if arguments.json:
        print(json.dumps(results))
        return
    for name, result in results["update"].items():
        print(f"{name:50} {result}")
    for name, result in results["check_seconds"].items():
        print(f"check, {name}: {result:.3g}")


if __name__ == "__main__":
    main()
