"""The plan of the runs: networks by size, rules by name, and `eqprop-run`'s settings for each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.config import flatten

CONFIG = Path(__file__).parents[2] / "configs" / "cifar10.toml"


@dataclass(frozen=True)
class Size:
    """The size of a run.

    Attributes:
        network: network keys that differ from the config's.
        train, test: number of examples; None uses all.
        epochs: passes over the training examples.
        seeds: number of runs per rule.
        more: other keys that differ.
    """

    network: Mapping[str, object]
    epochs: int
    train: int | None = None
    test: int | None = None
    seeds: int = 3
    more: Mapping[str, object] = field(default_factory=dict)


SIZES = {
    "four": Size({"channels": [64, 128, 256, 256]}, 60),
    "six": Size({"channels": [64, 128, 128, 256, 256, 512], "unpooled": [2, 4]}, 60),
    "skip": Size({"channels": [64, 128, 128, 256, 256], "unpooled": [3], "skips": [2, 3]}, 60),
    "narrow": Size(
        {"channels": [16, 32, 64, 64]},
        epochs=5,
        train=10_000,
        test=2_000,
        more={
            "optimizer.learning_rate": 2e-3,
            "optimizer.warmup_steps": 50,
            "products": "full",
            "average": 0.98,
        },
    ),
    "smoke": Size(
        {"channels": [3, 4], "gain": 1.4},
        epochs=1,
        train=60,
        test=40,
        seeds=1,
        more={
            "batch_size": 20,
            "optimizer.warmup_steps": 1,
            "products": "full",
            "average": 0.5,
            "contraction.every": 1,
        },
    ),
}
"""Sizes by name; the first three are for a GPU."""

_INDEPENDENT = {"optimizer.rates": "{feedback=0.1}"}
METHODS: dict[str, dict[str, object]] = {
    "vector-field": {"estimator.name": "vector-field", **_INDEPENDENT},
    "homeostasis": {
        "estimator.name": "homeostasis",
        "estimator.strength": 0.01,
        **_INDEPENDENT,
    },
    "kolen-pollack": {"estimator.name": "kolen-pollack", "optimizer.rates": "{}"},
    "asym-ep": {"estimator.name": "asym-ep", **_INDEPENDENT},
    "learned transposes": {
        "network.field": "experiments.cifar10.mirror:mirrored",
        "estimator.name": "experiments.cifar10.mirror:MirroredEP",
        **_INDEPENDENT,
    },
    "dyadic": {"estimator.name": "dyadic", **_INDEPENDENT},
    "recurrent-backprop": {
        "estimator.name": "recurrent-backprop",
        "estimator.dt": 1.0,
        "estimator.adjoint_tolerance": 1e-3,
        "estimator.adjoint_steps": 20,
        **_INDEPENDENT,
    },
    "tied": {
        "estimator.name": "vector-field",
        "network.feedback": "tied",
        "network.coordinates": "activity",
        "optimizer.rates": "{}",
    },
    "backpropagation": {
        "estimator.name": "recurrent-backprop",
        "estimator.dt": 1.0,
        "estimator.adjoint_tolerance": 1e-6,
        "estimator.adjoint_steps": 20,
        "network.feedback": "none",
        "optimizer.rates": "{}",
    },
}
"""The rows of the table.

In a network without feedback the adjoint converges after as many steps as there are layers. This is
exactly backpropagation."""

_NOT_OF = {
    "recurrent-backprop": ("phases.nudged_steps",),
    "backpropagation": ("phases.nudged_steps", "contraction.limit", "contraction.every"),
}
"""Keys that do not apply to a rule."""


def arguments(
    method: str,
    size: Size,
    seed: int,
    dataset: str,
    more: Mapping[str, object] | None = None,
    last: Mapping[str, object] | None = None,
) -> list[str]:
    """Give the arguments of `eqprop-run` for one run: those of CONFIG, and the differences.

    Args:
        method: a key of METHODS, whose settings take precedence over those of `more`.
        size: the network and the number of examples.
        seed, dataset: of the run.
        more: settings of all methods.
        last: settings that take precedence over the method's; None leaves one out.
    """
    chosen = flatten(tomllib.loads(CONFIG.read_text("utf-8")))
    chosen |= {f"network.{key}": value for key, value in size.network.items()}
    chosen |= {"epochs": size.epochs, "data.train_size": size.train, "data.test_size": size.test}
    chosen |= {**size.more, **(more or {})}
    rates = [key for key in chosen if key.startswith("optimizer.rates")]
    chosen = {key: value for key, value in chosen.items() if key not in rates} | METHODS[method]
    chosen |= last or {}
    if chosen.get("contraction.limit") is None:
        chosen.pop("contraction.every", None)  # nothing is measured
    listed = [
        part
        for key, value in chosen.items()
        if value is not None and key not in _NOT_OF.get(method, ())
        for part in ("--set", f"{key}={_written(value)}")
    ]
    return ["--dataset", dataset, "--seed", str(seed), *listed]


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
