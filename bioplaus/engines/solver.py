"""Relaxation in Brian2 behind the solver interface, so that every phase can run there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.engines.circuit import (
    MAX_SYNAPSES,
    Circuit,
    require_circuit,
    synapses_per_image,
    without_circuit,
)
from bioplaus.engines.package import METHODS, check_choice, duration, generated
from bioplaus.errors import InputError
from bioplaus.fields import VectorField
from bioplaus.nudging import Confined, Deviations, Layered, Symmetrised, Whole
from bioplaus.solvers import AbstractDynamics, AbstractSolver
from bioplaus.solvers.base import Carry

RUNTIME_TARGETS = ("numpy", "cython")
SERVED = (
    "vector-field",
    "asym-ep",
    "continual",
    "homeostasis",
    "kolen-pollack",
    "implicit",
    "recurrent-backprop",
    "unrolled",
    "finite-difference",
)
"""Estimators whose phases Brian2 can run, because all their dynamics have a circuit."""


@dataclass(frozen=True)
class Brian2(AbstractSolver):
    """tau ds/dt = F(s) in Brian2, one simulation per batch; a step is one `dt`.

    It supports the field's own phases and those of asym-ep. A phase is one simulation, which ends
    as soon as every row has settled. The groups are built once per kind of dynamics and batch size
    and reused; the places of rows that have ended stay idle.

    Attributes:
        tau: membrane time constant, with its unit.
        dt: time step, in membrane time constants, 0 < dt <= 1.
        method: `euler`, `exponential_euler` or `rk4`.
        target: `numpy` or `cython`.
        at_once: largest number of synapses in one simulation; a larger batch is split.
    """

    damped = False
    absolute = True
    tau: Any = "10 ms"
    dt: float = 0.5
    method: str = "euler"
    target: str = "numpy"
    at_once: int = MAX_SYNAPSES
    circuits: dict[Any, Circuit] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.dt <= 1.0:
            raise InputError(f"dt={self.dt} must lie in (0, 1] membrane time constants")
        check_choice("method", self.method, METHODS)
        if self.target == "cpp_standalone":
            raise InputError(
                "target='cpp_standalone' compiles a program for every simulation; to settle many "
                "times use 'numpy' or 'cython'"
            )
        check_choice("target", self.target, RUNTIME_TARGETS)
        duration("tau", self.tau)

    def unfit(self, estimator: str, field: VectorField, cost: AbstractCost) -> str | None:
        if estimator not in SERVED:
            return no_circuit(f"estimator={estimator!r}")
        return without_circuit(field, cost)

    def reach(self, dynamics: AbstractDynamics) -> int:
        return len(dynamics.order)

    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        self.advance(dynamics, s, carry, 1, 1, 0.0)

    def advance(
        self,
        dynamics: AbstractDynamics,
        s: Tensor,
        carry: Carry,
        steps: int,
        most: int,
        tolerance: float,
    ) -> int:
        served = _served(dynamics, s)
        images = max(1, self.at_once // max(1, synapses_per_image(served.field)))
        if len(s) <= images:
            taken = self._advance(served, s, most, tolerance)
        else:
            taken = 0
            for rows in torch.arange(len(s), device=s.device).split(images):
                part = s[rows]
                taken = max(taken, self._advance(served.take(rows), part, most, tolerance))
                s[rows] = part
        carry.fresh = False
        return taken

    def _advance(self, dynamics: Layered, s: Tensor, most: int, tolerance: float) -> int:
        with generated(self.target):
            circuit = self._circuit(dynamics, len(s))
            origin = dynamics.origin if isinstance(dynamics, Deviations) else 0.0
            circuit.load(dynamics, origin + s, 0 * circuit.clock.dt)
            steps = circuit.run_until(most, len(s), tolerance, len(dynamics.order))
        s.copy_(circuit.state(len(s)) - origin)
        return steps

    def _circuit(self, dynamics: Layered, rows: int) -> Circuit:
        field, nudge = dynamics.field, dynamics.nudge
        cost = nudge and nudge.cost
        require_circuit(field, cost)
        symmetrised = isinstance(dynamics, Symmetrised)
        kind = (
            *((each.shape, each.rho.name, each.box) for each in field.specs),
            *((c.name, c.source, c.target) for c in field.connections),
            *(cost and cost.name, symmetrised),
        )
        known = self.circuits.get(kind)
        if known is None or known.batch < rows:
            tau = duration("tau", self.tau)
            known = Circuit(
                field,
                rows,
                cost,
                tau=tau,
                dt=self.dt * tau,
                method=self.method,
                symmetrised=symmetrised,
            )
            self.circuits[kind] = known
        return known


def _served(dynamics: AbstractDynamics, s: Tensor) -> Layered:
    """Return the dynamics if a circuit can be built for them.

    Raises:
        InputError: no circuit can be built.
    """
    if isinstance(dynamics, Whole):
        require_circuit(dynamics.field)
    if type(dynamics) not in (Layered, Deviations, Symmetrised, Confined) or s.is_complex():
        what = "complex states" if s.is_complex() else type(dynamics).__name__
        raise InputError(no_circuit(what))
    assert isinstance(dynamics, Layered)
    return dynamics


def no_circuit(what: str) -> str:
    """The error line for an estimator or dynamics without a circuit."""
    return (
        f"the engine brian2 has no circuit for {what}; use one of the estimators "
        f"{', '.join(SERVED)}, or the engine torch"
    )
