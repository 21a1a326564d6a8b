"""CPU time per training image: equilibrium propagation relative to backpropagation.

    python benchmarks/engine.py [--only WORD] [--json]

One process, one thread, the same layers, batch 50, real MNIST images, both with plain gradient
descent. The two run in turns, and the ratio is that of each pair's CPU times (median, quartiles).
Cases:

- `fixed`: 784-512-10, exactly 30 free and 10 nudged steps, for each nudging, sweeps and Euler;
- `converged`: 784-512-512-512-10, every row settled to a residual of 1e-3 in each phase, on the
  initial network and after learning 5,000 images; feedback of gain 0.3 at 90 degrees, and as in
  configs/mnist-3x512.toml (0.2 times the transpose), where more sweeps are needed at first;
- `exact`: asym-ep, settled likewise, after learning 2,000 images, by both kinds of sweeps: how its
  cost grows with width and depth. `products` is the ratio from counting multiplications instead of
  measuring;
- `together`: an update of M networks as one program relative to M separate updates.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from bioplaus.config import EqpropConfig
from bioplaus.data import load_dataset
from bioplaus.training import Run, build
from bioplaus.training.joint import Joint
from bioplaus.training.run import read
from bioplaus.training.updates import Ask, StepByStep
from bridge.config import load_config

BATCH = 50


def backpropagation(sizes: list[int], x: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """One training step of a multilayer perceptron in plain torch."""
    layers: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def equilibrium(run: Run, x: torch.Tensor, y: torch.Tensor) -> tuple[Callable[[], None], dict]:
    """One training step of a run, and a summary of its last phases."""
    buffers = {name: torch.empty_like(p) for name, p in run.field.parameters.items()}
    last: dict = {}

    def step() -> None:
        estimate = run.estimator(run.field, x, y, run.cost, out=buffers)
        run.optimizer.step(estimate.updates)
        last["estimate"] = estimate

    return step, last


def ratio(ours: Callable[[], None], theirs: Callable[[], None], pairs: int, repeat: int) -> dict:
    """CPU time of `ours` relative to `theirs`, run in turns."""

    def clock(step: Callable[[], None]) -> float:
        began = time.process_time()
        for _ in range(repeat):
            step()
        return (time.process_time() - began) / repeat

    for step in (ours, theirs):
        clock(step)
    times = [(clock(ours), clock(theirs)) for _ in range(pairs)]
    ratios = [a / b for a, b in times]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": round(median, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "microseconds_per_image": round(1e6 * statistics.median(a for a, _ in times) / BATCH, 1),
    }


def multiplications(step: Callable[[], None]) -> int:
    """Number of multiplications in the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


def case(sizes: list[int], sets: list[str], trained: int, pairs: int, repeat: int) -> dict:
    """The ratio for one network and one set of settings."""
    hidden = f"network.hidden={sizes[1:-1]}"
    rate = "optimizer.learning_rate=1e-3"
    config = load_config(EqpropConfig, sets=[hidden, "data.train_size=5000", rate, *sets])
    run = build(config)
    images, labels = run.dataset.train.inputs, run.dataset.train.targets
    eye = torch.eye(sizes[-1])
    for i in range(0, trained, BATCH):
        x, y = images[i : i + BATCH], eye[labels[i : i + BATCH]]
        updates = run.estimator(run.field, x, y, run.cost).updates
        for name, update in updates.items():
            run.field.parameters[name].add_(update, alpha=0.1)
    x, label = images[:BATCH], labels[:BATCH]
    step, last = equilibrium(run, x, eye[label])
    theirs = backpropagation(sizes, x, label)
    result = ratio(step, theirs, pairs, repeat)
    result["products"] = round(multiplications(step) / multiplications(theirs), 2)
    phases = [last["estimate"].free, *last["estimate"].nudged]
    result["steps"] = [round(float(p.n_steps.float().mean()), 1) for p in phases]
    result["largest_residual"] = float(f"{max(float(p.residual.max()) for p in phases):.1e}")
    return result


def together(members: int, sets: list[str], pairs: int) -> dict:
    """The ratio of updates of many seeds together to as many separate updates."""
    rate = "optimizer.learning_rate=1e-3"
    common = ["data.train_size=5000", "data.test_size=1", rate, *sets]
    configs = [load_config(EqpropConfig, sets=[*common, f"seed={k}"]) for k in range(members)]
    data, g = read(configs[0]), torch.Generator().manual_seed(0)
    one_by_one, joined = ([build(each, dataset=data) for each in configs] for _ in range(2))
    single = [StepByStep(run) for run in one_by_one]
    for updates in (*single, *map(StepByStep, joined)):  # their first step makes the buffers
        updates.step(torch.arange(BATCH))
    joint = Joint(joined, lambda text: None)

    def rows() -> list[torch.Tensor]:
        return [torch.randint(5000, (BATCH,), generator=g) for _ in range(members)]

    def apart() -> None:
        for updates, own in zip(single, rows(), strict=True):
            updates.step(own)

    def at_once() -> None:
        joint.answer([Ask(2, own, True, lambda text: None) for own in rows()])

    found = ratio(at_once, apart, pairs, 3)
    found["microseconds_per_image"] = round(found["microseconds_per_image"] / members, 1)
    return found


def cases(pairs: int) -> Iterator[tuple[str, Callable[[], dict]]]:
    """The cases, by name."""
    fixed = ["phases.tolerance=0", "phases.free_steps=30", "phases.nudged_steps=10"]
    settled = ["phases.tolerance=1e-3", "phases.free_steps=100", "phases.nudged_steps=100"]
    small, deep = [784, 512, 10], [784, 512, 512, 512, 10]
    for solver in ("sweeps", "euler"):
        for nudging in ("centered", "one-sided"):
            sets = [*fixed, f"phases.solver={solver}", f"estimator.nudging={nudging}"]
            name = f"fixed 784-512-10 {solver} {nudging}"
            yield name, partial(case, small, sets, 0, pairs, 20)
    for angle, gain in ((90.0, 0.3), (0.0, 0.2)):
        for trained in (0, 5000):
            sets = [*settled, f"network.angle={angle}", f"network.feedback_gain={gain}"]
            name = f"converged 784-512-512-512-10, {angle:g} degrees, {trained} images learnt"
            yield name, partial(case, deep, sets, trained, pairs, 10)
    exact = [*settled, "estimator.name=asym-ep", "network.feedback_gain=0.3"]
    for hidden in ([512], [2048], [256] * 3, [512] * 3, [256] * 6):
        sizes = [784, *hidden, 10]
        for solver in ("sweeps", "symmetric-sweeps"):
            name = f"exact {'-'.join(map(str, sizes))} {solver}"
            sets = [*exact, f"phases.solver={solver}"]
            yield name, partial(case, sizes, sets, 2000, pairs, 10)
    for members, hidden in ((8, [16]), (32, [16]), (32, [64]), (8, [64, 64]), (8, [512])):
        name = f"together {members} x 784-{'-'.join(map(str, hidden))}-10"
        yield name, partial(together, members, [f"network.hidden={hidden}"], pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", metavar="WORD", default="", help="cases whose name begins so")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_dataset("mnist", train_size=1, test_size=1)  # fails early if the data are missing
    wanted = (each for each in cases(arguments.pairs) if each[0].startswith(arguments.only))
    results = {name: measure() for name, measure in wanted}
    if arguments.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        print(f"{name:60} {result}")


if __name__ == "__main__":
    main()
