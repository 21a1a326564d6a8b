"""Random networks, batches and estimators, each drawn from its number alone.

The number also counts through the activations, estimators and solvers: `ALL` of them in a row have
every combination.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bioplaus.fields import LeakyField
from bioplaus.phases import Settling
from bioplaus.solvers import get_solver
from tests.independent.network import CORNERS, COSTS, RHO, Cost, Network, assemble

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
    "unrolled",
)
COORDINATES = ("membrane", "activity", "clipped")
NUDGINGS = ("one-sided", "centered", "random-sign")
SOLVERS = ("sweeps", "symmetric-sweeps", "damped-sweeps", "anderson", "euler")
UNITS = (*RHO, "clipped", "clipped")
"""The activations, and states in a box, which are the default of the package."""
ALL = len(UNITS) * len(KINDS) * len(SOLVERS)
"""So many numbers in a row have every combination of units, estimator and solver.

It is so because the numbers of units and of estimators have no common factor.
"""
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


def choices(number: int) -> tuple[str, str, str]:
    """The units, the estimator and the solver of a number; a few do not go together."""
    units, kind = UNITS[number % len(UNITS)], KINDS[number % len(KINDS)]
    return units, kind, SOLVERS[number // len(UNITS) % len(SOLVERS)]


def draw(number: int, widest: int = 7) -> Case:
    """The case of a number, with layers of up to `widest` units."""
    rng = np.random.default_rng(number)
    units, estimator, solver = choices(number)
    if estimator == "holomorphic" and (units == "clipped" or units in CORNERS):
        estimator = [kind for kind in KINDS if kind != "holomorphic"][rng.integers(len(KINDS) - 1)]
    if estimator == "continual":  # whose every step the twin follows
        solver = "euler"
    sizes = _sizes(rng, widest, few=estimator == "finite-difference")
    single = rng.random() < 0.3
    options = _options(rng, sizes, units)
    options |= {"dtype": torch.float32 if single else torch.float64}
    network = LeakyField(generator=torch.Generator().manual_seed(number), **options)
    for name, p in network.parameters.items():
        if name.startswith("bias"):
            p.copy_(torch.as_tensor(rng.uniform(-0.2, 0.8, p.shape), dtype=p.dtype))
    batch = int(rng.integers(1, 4))
    x = rng.uniform(0, 1, (batch, sizes[0]))
    y = rng.dirichlet(np.full(sizes[-1], 0.3), batch) if sizes[-1] > 1 else np.ones((batch, 1))
    if rng.random() < 0.2:  # targets are not always probabilities
        y *= rng.uniform(0.5, 1.5)
    if single:  # both sides are to see the same numbers
        x, y = (a.astype(np.float32).astype(np.float64) for a in (x, y))
    cost = Cost(COSTS[rng.integers(len(COSTS))])
    settings = _estimator_settings(rng, estimator)
    exponent = rng.uniform(-5.5, -4.0) if single else rng.uniform(-12.0, -8.0)
    if rng.random() < 0.15:  # as loose as training is
        exponent = rng.uniform(-5.0, -3.5)
    if estimator == "continual":  # every step is looked at
        exponent = max(exponent / 2, -5.0)
    every = int(rng.choice([1, 1, 3]))
    return Case(
        number, options, network, x, y, cost, estimator, settings, solver,
        _solver_settings(rng, solver), float(10.0**exponent), every,
    )  # fmt: skip


def _sizes(rng: np.random.Generator, widest: int, *, few: bool) -> tuple[int, ...]:
    """Units a layer; `few` where each parameter takes phases of its own."""
    depth = int(rng.integers(1, 4 if few else 5))
    widest = min(widest, 3) if few else widest
    sizes = tuple(int(size) for size in rng.integers(max(widest // 3, 2), widest + 1, depth + 1))
    if rng.random() < 0.1:  # narrow layers have no angle but 0 and 180 degrees
        sizes = (sizes[0], *(int(size) for size in rng.integers(1, 3, depth)))
    return sizes


def _solver_settings(rng: np.random.Generator, solver: str) -> dict[str, Any]:
    return {
        "sweeps": {},
        "symmetric-sweeps": {"repeats": int(rng.integers(1, 4))},
        "damped-sweeps": {"omega": float(rng.uniform(0.2, 1.0))},
        "anderson": {"memory": int(rng.integers(1, 6))},
        "euler": {"dt": float(rng.uniform(0.1, 1.0))},
    }[solver]


def _options(rng: np.random.Generator, sizes: tuple[int, ...], units: str) -> dict[str, Any]:
    clipped = units == "clipped"
    tied = bool(rng.random() < 0.25)
    wild = rng.random() < 0.4
    options = {
        "sizes": sizes,
        "activation": "hard-sigmoid" if clipped else units,
        "tied": tied,
        "coordinates": "clipped" if clipped else COORDINATES[rng.integers(2)],
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


def _estimator_settings(rng: np.random.Generator, name: str) -> dict[str, Any]:
    if name in ("implicit", "recurrent-backprop", "finite-difference"):
        return {}
    if name == "unrolled":
        return {"dt": float(rng.uniform(0.2, 0.8)), "steps": int(rng.integers(30, 300))}
    settings: dict[str, Any] = {"beta": float(10 ** rng.uniform(-2.5, -0.05))}
    if name == "holomorphic":
        return settings | {"points": int(rng.integers(1, 6))}
    if name == "dyadic":
        return settings
    settings["nudging"] = NUDGINGS[rng.choice([0, 1, 1, 2])]
    if name == "homeostasis":
        settings["strength"] = float(rng.uniform(0, 2))
    if name == "kolen-pollack":
        settings["decay"] = float(rng.uniform(0, 2))
    if name == "continual":
        settings["rate"] = float(rng.choice([0.0, rng.uniform(0, 0.1)]))
    return settings
