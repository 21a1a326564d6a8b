"""Random networks, batches and estimators, each drawn from its number alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bioplaus.fields import LeakyField
from bioplaus.phases import Settling
from bioplaus.solvers import get_solver
from tests.independent.network import RHO, Cost, Network, assemble

KINDS = (
    "vector-field",
    "asym-ep",
    "dyadic",
    "holomorphic",
    "homeostasis",
    "kolen-pollack",
    "continual",
    "implicit",
    "recurrent-backprop",
    "finite-difference",
)
ASKED_UP_TO = 64
"""States of at most this size are asked for their stability unless told otherwise."""


@dataclass(frozen=True)
class Case:
    """One network of the package, its twin in numpy, a batch, and how to estimate a gradient."""

    number: int
    options: dict[str, Any]
    field: LeakyField
    x: np.ndarray
    y: np.ndarray
    cost: Cost
    estimator: str
    settings: dict[str, Any]
    solver: str
    solver_settings: dict[str, Any]
    tolerance: float
    check_every: int = 1
    steps: int = 1000
    twin: Network = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twin", self.rebuild(self.weights()))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the package's side; the twin computes in float64."""
        return self.options["dtype"]

    @property
    def eps(self) -> float:
        """Its rounding unit."""
        return float(torch.finfo(self.dtype).eps)

    def weights(self) -> dict[str, np.ndarray]:
        """The package's parameters as float64 arrays."""
        return {name: p.double().numpy().copy() for name, p in self.field.parameters.items()}

    def rebuild(self, weights: dict[str, np.ndarray]) -> Network:
        """The twin with other weights."""
        kept = {key: self.options[key] for key in ("tied", "coordinates", "linear_output")}
        return assemble(self.options["sizes"], self.options["activation"], weights, **kept)

    def settling(self) -> Settling:
        """How the phases of the estimator settle."""
        solver = get_solver(self.solver, **self.solver_settings)
        ask = True if self.twin.n > ASKED_UP_TO else None  # it costs: else not asked of large ones
        steps = self.steps
        return Settling(solver, self.tolerance, steps, steps, self.check_every, verify=ask)

    def __str__(self) -> str:
        return (
            f"network {self.number}: {self.options}, {self.cost.name}, {self.estimator} "
            f"{self.settings}, {self.solver} {self.solver_settings}, tolerance {self.tolerance:.1e}"
        )


def draw(number: int, widest: int = 7) -> Case:
    """The case of a number, with layers of up to `widest` units."""
    rng = np.random.default_rng(number)
    depth = int(rng.integers(1, 5))
    sizes = tuple(int(size) for size in rng.integers(max(widest // 3, 2), widest + 1, depth + 1))
    if rng.random() < 0.1:  # narrow layers have no angle but 0 and 180 degrees
        sizes = (sizes[0], *(int(size) for size in rng.integers(1, 3, depth)))
    single = rng.random() < 0.3
    options = _options(rng, sizes) | {"dtype": torch.float32 if single else torch.float64}
    network = LeakyField(generator=torch.Generator().manual_seed(number), **options)
    for name, p in network.parameters.items():
        if name.startswith("bias"):
            p.copy_(torch.as_tensor(rng.uniform(-0.2, 0.8, p.shape), dtype=p.dtype))
    batch = int(rng.integers(1, 4))
    x = rng.uniform(0, 1, (batch, sizes[0]))
    y = rng.dirichlet(np.full(sizes[-1], 0.3), batch) if sizes[-1] > 1 else np.ones((batch, 1))
    if single:  # both sides are to see the same numbers
        x, y = (a.astype(np.float32).astype(np.float64) for a in (x, y))
    cost = Cost(("squared-error", "cross-entropy")[rng.integers(2)])
    estimator, settings = _estimator(rng, options, sizes)
    solver = (
        "euler" if estimator == "continual" else ("sweeps", "anderson", "euler")[rng.integers(3)]
    )
    solver_settings: dict[str, Any] = {
        "sweeps": {},
        "anderson": {"memory": int(rng.integers(1, 6))},
        "euler": {"dt": float(rng.uniform(0.1, 1.0))},
    }[solver]
    exponent = rng.uniform(-5.5, -4.0) if single else rng.uniform(-12.0, -8.0)
    if rng.random() < 0.15:  # as loose as training is
        exponent = rng.uniform(-5.0, -3.5)
    if estimator == "continual":  # every step is looked at
        exponent = max(exponent / 2, -5.0)
    every = int(rng.choice([1, 1, 3]))
    return Case(
        number, options, network, x, y, cost, estimator, settings, solver, solver_settings,
        float(10.0**exponent), every,
    )  # fmt: skip


def _options(rng: np.random.Generator, sizes: tuple[int, ...]) -> dict[str, Any]:
    rho = list(RHO)[rng.integers(len(RHO))]
    kinds = ["membrane", "activity"]
    if rng.random() < 0.25:
        rho = "hard-sigmoid"
    if rho == "hard-sigmoid":
        kinds += ["clipped"] * 2
    tied = bool(rng.random() < 0.25)
    wild = rng.random() < 0.4
    options = {
        "sizes": sizes,
        "activation": rho,
        "tied": tied,
        "coordinates": kinds[rng.integers(len(kinds))],
        "linear_output": bool(rng.random() < 0.7),
        "gain": float(rng.uniform(1.0, 3.0) if wild else rng.uniform(0.2, 1.0)),
    }
    if not tied:
        options["feedback_gain"] = float(rng.uniform(0.2, 1.5))
        if min(sizes) < 2 or rng.random() < 0.4:
            options["asymmetry"] = float(rng.choice([0.0, rng.uniform(0, 2)]))
        else:
            options["angle"] = float(rng.choice([0.0, 180.0, rng.uniform(0, 180)]))
    return options


def _estimator(
    rng: np.random.Generator, options: dict[str, Any], sizes: tuple[int, ...]
) -> tuple[str, dict[str, Any]]:
    few = sum(a * b for a, b in itertools.pairwise(sizes)) < 30
    smooth = options["activation"] != "hard-sigmoid"
    names = [
        name
        for name in KINDS
        if (name != "holomorphic" or smooth) and (name != "finite-difference" or (few and smooth))
    ]
    name = names[rng.integers(len(names))]
    if name in ("implicit", "recurrent-backprop", "finite-difference"):
        return name, {}
    settings: dict[str, Any] = {"beta": float(10 ** rng.uniform(-2.5, -0.05))}
    if name == "holomorphic":
        return name, settings | {"points": int(rng.integers(1, 6))}
    if name == "dyadic":
        return name, settings
    settings["nudging"] = ("one-sided", "centered", "centered", "random-sign")[rng.integers(4)]
    if name == "homeostasis":
        settings["strength"] = float(rng.uniform(0, 2))
    if name == "kolen-pollack":
        settings["decay"] = float(rng.uniform(0, 2))
    if name == "continual":
        settings["rate"] = float(rng.choice([0.0, rng.uniform(0, 0.1)]))
    return name, settings
