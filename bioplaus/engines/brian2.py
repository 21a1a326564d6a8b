"""Simulate a field in Brian2, with units: free and nudged phase in one continuous simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.costs import AbstractCost, get_cost, one_hot
from bioplaus.engines.circuit import Circuit, require_circuit
from bioplaus.engines.package import duration, generated, load_brian2
from bioplaus.errors import InputError
from bioplaus.fields import LayeredField
from bioplaus.nudging import Layered, Nudge


@dataclass(frozen=True)
class Trajectory:
    """The recording of a simulation.

    Attributes:
        time: time of each state, in seconds, [T].
        states: s at those times, [T, B, n].
        onset: index of the last free state, after which the nudge acts.
    """

    time: np.ndarray
    states: Tensor
    onset: int

    @property
    def free(self) -> Tensor:
        """The state at the end of the free phase, [B, n]."""
        return self.states[self.onset]

    @property
    def nudged(self) -> Tensor:
        """The state at the end, [B, n]."""
        return self.states[-1]


@dataclass(frozen=True)
class Course:
    """The timing of one simulation, in times with units ("10 ms" or Brian2 quantities).

    Attributes:
        tau: membrane time constant.
        dt: time step.
        free, nudged: duration of each phase; `nudged` None means no nudged phase.
        method: `euler`, `exponential_euler` or `rk4`.
        target: `numpy`, `cython` or `cpp_standalone`.
    """

    tau: Any = "10 ms"
    dt: Any = "1 ms"
    free: Any = "200 ms"
    nudged: Any = None
    method: str = "euler"
    target: str = "numpy"

    def quantities(self) -> dict[str, Any]:
        """tau and dt as Brian2 quantities.

        Raises:
            InputError: a unit is wrong, or dt is longer than tau.
        """
        tau, dt = duration("tau", self.tau), duration("dt", self.dt)
        if dt > tau:
            raise InputError(f"dt={self.dt!r} is longer than tau={self.tau!r}; use a shorter step")
        return {"tau": tau, "dt": dt, "method": self.method}

    def steps(self) -> tuple[int, int]:
        """Numbers of steps of the free and of the nudged phase."""
        dt = duration("dt", self.dt)
        times = [duration("free", self.free)]
        times += [] if self.nudged is None else [duration("nudged", self.nudged)]
        counts = [max(1, round(float(time / dt))) for time in times]
        return counts[0], sum(counts[1:])


def simulate(
    field: LayeredField,
    x: Tensor,
    y: Tensor | None = None,
    cost: str | AbstractCost = "squared-error",
    *,
    beta: float | Tensor = 0.0,
    start: Tensor | None = None,
    course: Course | None = None,
) -> Trajectory:
    """Simulate a batch in Brian2: a free phase, then a nudged one, in one simulation.

    Args:
        field: the network.
        x: clamped input, [B, n_in].
        y: labels [B] or targets [B, m]; required for a nudged phase.
        cost: name or object.
        beta: strength of the nudge, one for all rows or one per row [B, 1].
        start: initial state [B, n]; None starts from a feedforward pass.
        course: the timing.

    Raises:
        InputError: a wrong unit, a nudged phase without targets, or a setting outside its range.
    """
    course = course or Course()
    dynamics = nudged_dynamics(field, x, y, cost, beta, course)
    s = field.initial_state(dynamics.drive) if start is None else start
    free, nudged = course.steps()
    settings = course.quantities()
    with generated(course.target):
        circuit = Circuit(field, len(x), dynamics.nudge and dynamics.nudge.cost, **settings)
        monitors = monitor(circuit)
        circuit.load(dynamics, s, free * settings["dt"])
        circuit.run((free + nudged) * settings["dt"])
        time = np.asarray(monitors[0].t)
        states = circuit.traces(monitors)
        end = circuit.state(len(x))
    time = np.append(time, (free + nudged) * float(settings["dt"]))
    states = torch.cat((torch.from_numpy(states), end[None])).to(field.dtype)
    return Trajectory(time, states, free)


def nudged_dynamics(
    field: LayeredField,
    x: Tensor,
    y: Tensor | None,
    cost: str | AbstractCost,
    beta: float | Tensor,
    course: Course,
) -> Layered:
    """The dynamics of the field with its drive and the nudge of a course.

    Raises:
        InputError: a nudged phase without targets.
    """
    require_circuit(field)
    drive = field.drive(x)
    if course.nudged is None:
        return Layered(field, drive)
    if y is None:
        raise InputError("a nudged phase needs targets: give y, or leave out course.nudged")
    m = field.output.stop - field.output.start
    target = y if y.ndim == 2 else one_hot(y, m, field.dtype)
    strength = torch.as_tensor(beta, dtype=field.dtype).expand(len(x), 1)
    return Layered(field, drive, Nudge(get_cost(cost), target, strength))


def monitor(circuit: Circuit, names: str = "s") -> list[Any]:
    """Record a variable of all neurons, with one monitor per layer."""
    brian2 = load_brian2()
    monitors = [
        brian2.StateMonitor(g, names, record=True, clock=circuit.clock) for g in circuit.layers
    ]
    circuit.add(*monitors)
    return monitors
