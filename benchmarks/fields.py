"""CPU time of fields other than the chain, as ratios of steps that run in turns.

    python benchmarks/fields.py [--against CHECKOUT] [--json]

One process, one thread; each ratio uses the best of several times, measured in turns.

- `generic`: asym-ep on 784-256-10 with a `FunctionField`, relative to the equivalent layered field;
  20 free and 10 nudged steps each.
- `convolution`: an update of asym-ep with a convolutional field, relative to torch's convolutions
  that its phases need (as many forward and transposed ones, pooling and kernel gradients).
- `default`: an update of the default run of `eqprop-run` (784-512-10, vector-field), relative to
  that of the package in CHECKOUT, another copy of this repository, in alternating processes;
  likewise for 784-512-512-512-10 and for asym-ep.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from bioplaus.costs import get_cost, one_hot
from bioplaus.estimators import AsymEP
from bioplaus.fields import Conv, Dense, FunctionField, Layer, LayeredField, LeakyField
from bioplaus.phases import Settling
from bioplaus.solvers import Euler

BATCH = 50
COST = get_cost("squared-error")


def best(steps: dict[str, Callable[[], object]], rounds: int, repeat: int) -> dict[str, float]:
    """CPU milliseconds of each step, the best of several rounds in turns."""
    found = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds + 1):
        for name, step in steps.items():
            began = time.process_time()
            for _ in range(repeat):
                step()
            found[name] = min(found[name], 1e3 * (time.process_time() - began) / repeat)
    return found


def generic(rounds: int) -> dict[str, float]:
    """The same network as a formula and as layers."""
    g = torch.Generator().manual_seed(0)
    leaky = LeakyField([784, 256, 10], feedback_gain=0.3, generator=g)

    def mu(p, x, s):
        hidden, out = s[:, :256], s[:, 256:]
        low = x @ p["forward.1"].T + p["bias.1"] + out @ p["feedback.1"].T
        high = torch.tanh(hidden) @ p["forward.2"].T + p["bias.2"]
        return torch.cat((low, high), 1) - s

    written = FunctionField(mu, leaky.parameters, n=266, n_output=10, input=784)
    x = torch.rand(BATCH, 784, generator=g)
    y = one_hot(torch.arange(BATCH) % 10, 10, torch.float32)
    rule = AsymEP(Settling(Euler(0.5), tolerance=0.0, free_steps=20, nudged_steps=10))
    times = best(
        {
            "generic": lambda: rule(written, x, y, COST),
            "fused": lambda: rule(leaky, x, y, COST),
        },
        rounds,
        5,
    )
    return times | {"ratio": times["generic"] / times["fused"]}


def convolution(rounds: int) -> dict[str, float]:
    """An update of a convolutional field, and the bare products that it needs."""
    g = torch.Generator().manual_seed(0)
    kernel = {"kernel": 5, "pool": "average"}
    layers = [Layer((32, 14, 14), "clipped"), Layer((64, 7, 7), "clipped"), Layer(10, "linear")]
    connections = [
        Conv(0, 1, gain=2.0, **kernel),
        Conv(1, 2, gain=2.0, **kernel),
        Conv(2, 1, gain=0.3, feedback=True, **kernel),
        Dense(2, 3),
        Dense(3, 2, gain=0.3),
    ]
    field = LayeredField((1, 28, 28), layers, connections, generator=g)
    out = {name: torch.empty_like(p) for name, p in field.parameters.items()}
    x = torch.rand(BATCH, 1, 28, 28, generator=g)
    y = one_hot(torch.arange(BATCH) % 10, 10, torch.float32)
    free, nudged = 10, 5
    rule = AsymEP(Settling(tolerance=0.0, free_steps=free, nudged_steps=nudged))
    low, k, back = torch.rand(BATCH, 32, 14, 14), field.parameters, torch.rand(BATCH, 64, 7, 7)
    twice, above = torch.rand(2 * BATCH, 32, 14, 14), torch.rand(2 * BATCH, 64, 7, 7)

    def up(r: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.conv2d(r, weight, padding=2), 2)

    def down(v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        spread = F.interpolate(v, scale_factor=2.0, mode="nearest")
        return F.conv_transpose2d(spread, weight, padding=2)

    def bare() -> None:
        up(x, k["forward.1"])
        for _ in range(free + 2):  # including the first pass upwards and the currents at s*
            up(low, k["forward.2"])
            down(back, k["feedback.1"])
        for _ in range(nudged):  # J^T d: each kernel transposed
            down(above, k["forward.2"])
            up(twice, k["feedback.1"])
        wide = torch.rand(BATCH, 64, 14, 14)
        conv2d_weight(low, k["forward.2"].shape, wide, padding=2)
        conv2d_weight(low, k["feedback.1"].shape, wide, padding=2)
        conv2d_weight(x, k["forward.1"].shape, torch.rand(BATCH, 32, 28, 28), padding=2)

    times = best({"field": lambda: rule(field, x, y, COST, out=out), "bare": bare}, rounds, 1)
    return times | {"ratio": times["field"] / times["bare"]}


DEFAULT = """
import json, sys, time
import torch
from bioplaus.config import EqpropConfig
from bioplaus.training import build
from bridge.config import load_config
torch.set_num_threads(1)
hidden, name = json.loads(sys.argv[1]), sys.argv[2]
sets = [f"network.hidden={hidden}", "data.train_size=1000", f"estimator.name={name}"]
if len(hidden) > 1:
    sets.append("network.feedback_gain=0.3")
run = build(load_config(EqpropConfig, sets=sets))
x, label = run.dataset.train.inputs[:50].flatten(1), run.dataset.train.targets[:50]
y, out = torch.eye(10)[label], {k: torch.empty_like(p) for k, p in run.field.parameters.items()}
def step():
    run.optimizer.step(run.estimator(run.field, x, y, run.cost, out=out).updates)
for _ in range(10):
    step()
best = float("inf")
for _ in range(8):
    began = time.process_time()
    for _ in range(10):
        step()
    best = min(best, (time.process_time() - began) / 10)
print(1e3 * best)
"""
NETWORKS = ([512], [512, 512, 512])


def default(other: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Updates of this copy relative to those of another."""
    here, found = Path(__file__).parent.parent, {}
    for hidden in NETWORKS:
        for name in ("vector-field", "asym-ep"):
            times = {"here": float("inf"), "there": float("inf")}
            for _ in range(rounds):
                for where, folder in (("here", here), ("there", other)):
                    took = _measured(folder, hidden, name)
                    times[where] = min(times[where], took)
            times["ratio"] = times["here"] / times["there"]
            found[f"default {'-'.join(map(str, [784, *hidden, 10]))} {name}"] = times
    return found


def _measured(folder: Path, hidden: list[int], name: str) -> float:
    command = [sys.executable, "-c", DEFAULT, json.dumps(hidden), name]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"in {folder}: {done.stderr.splitlines()[-1]}")
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "generic over fused": generic(arguments.rounds),
        "convolution over bare": convolution(arguments.rounds),
    }
    if arguments.against:
        results |= default(arguments.against, arguments.rounds)
    if arguments.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        print(f"{name:40} {'  '.join(f'{k} {v:.2f}' for k, v in result.items())}")


if __name__ == "__main__":
    main()
