"""CPU time of an optimizer step relative to torch.optim.SGD, on the parameters of 784-512-10.

    python benchmarks/optim.py [--json]

One process, one thread; the optimizers step in turns, and the results are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from bridge.optim import METHODS, Optimizer

TURNS, STEPS = 30, 50


def tensors() -> dict[str, torch.Tensor]:
    """Weights and biases of 784-512-10."""
    shapes = {"forward.1": (512, 784), "bias.1": (512,), "forward.2": (10, 512), "bias.2": (10,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def reference() -> Callable[[], None]:
    """A step of torch.optim.SGD with given gradients."""
    params, gradients = list(tensors().values()), list(tensors().values())
    optimizer = torch.optim.SGD(params, lr=1e-3)

    def step() -> None:
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient
        optimizer.step()

    return step


def ours(method: str) -> Callable[[], None]:
    """A step of bridge.optim.Optimizer."""
    updates = tensors()
    optimizer = Optimizer(
        tensors(), method=method, learning_rate=1e-3, schedule="cosine", total_steps=10**6
    )
    return lambda: optimizer.step(updates)


def microseconds(step: Callable[[], None]) -> float:
    """CPU time of one step."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return 1e6 * (time.process_time() - start) / STEPS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    steps = {"torch.optim.SGD": reference(), **{method: ours(method) for method in METHODS}}
    turns = [{name: microseconds(step) for name, step in steps.items()} for _ in range(TURNS)][1:]
    found = {name: statistics.median(turn[name] for turn in turns) for name in steps}
    ratios = {
        name: statistics.median(turn[name] / turn["torch.optim.SGD"] for turn in turns)
        for name in steps
    }
    if as_json:
        print(json.dumps({"microseconds": found, "ratios": ratios}))
        return
    for name, value in found.items():
        print(f"{name:16} {value:7.1f} us a step, {ratios[name]:.2f}x")


if __name__ == "__main__":
    main()
