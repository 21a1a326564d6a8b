"""The local rule in continuous time, as equations of the synapses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.engines.brian2 import Course, Trajectory, monitor, nudged_dynamics
from bioplaus.engines.circuit import PLASTICITY, Circuit, all_to_all, require_circuit
from bioplaus.engines.package import generated, load_brian2
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField


@dataclass(frozen=True)
class Plasticity:
    """The result of `integrate_rule`.

    Attributes:
        updates: name -> tensor, (1/beta) times the integral of rho(s_j) ds_i over the nudged
            phase, averaged over the batch: an estimate of -dJ/dtheta.
        trajectory: the trajectory of the states.
        weights: the running integral (not divided by beta) in a few synapses onto the last layer,
            for the first image, at the trajectory's times except the last, [T - 1, watched].
    """

    updates: dict[str, Tensor]
    trajectory: Trajectory
    weights: np.ndarray


def integrate_rule(
    field: LeakyField,
    x: Tensor,
    y: Tensor,
    cost: str | AbstractCost = "squared-error",
    *,
    beta: float,
    course: Course | None = None,
    start: Tensor | None = None,
    watched: int = 8,
) -> Plasticity:
    """Let every synapse integrate dW_ij/dt ~ rho(s_j) ds_i/dt while the nudge acts.

    The two-state rule rho(s_j*) (s_i^beta - s_i*) / beta is its limit as beta -> 0. At a finite
    beta the presynaptic rate changes as well, and the two differ by O(beta).

    Args:
        field: the network, in membrane or clipped coordinates.
        x: clamped input, [B, n_in].
        y: labels [B] or targets [B, m].
        cost: name or object.
        beta: the nudge, not zero.
        course: the timing; by default a nudged phase as long as the free one.
        start: initial state [B, n].
        watched: number of synapses whose time course is recorded.

    Raises:
        InputError: activity coordinates, beta = 0, or anything that `simulate` rejects.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 4, the form compatible with STDP.
    """
    course = course or Course(nudged="200 ms")
    require_circuit(field, kind=LeakyField)
    if field.coordinates == "activity":
        raise InputError(
            'the rule in continuous time is that of the membranes; use coordinates="membrane" or '
            '"clipped", not "activity"'
        )
    if beta == 0 or course.nudged is None:
        raise InputError("the rule needs a nudged phase: give beta != 0 and course.nudged")
    brian2 = load_brian2()
    dynamics = nudged_dynamics(field, x, y, cost, beta, course)
    assert dynamics.nudge is not None
    free, nudged = course.steps()
    settings = course.quantities()
    batch, onset = len(x), free * settings["dt"]
    with generated(course.target):
        circuit = Circuit(field, batch, dynamics.nudge.cost, plastic=True, **settings)
        clamped, from_input = _input(circuit, x)
        monitors = monitor(circuit)
        last = circuit.synapses.get(f"forward.{len(field.layers)}", from_input)
        few = min(watched, field.sizes[-1] * field.sizes[-2])
        trace = brian2.StateMonitor(last, "trace", record=np.arange(few), clock=circuit.clock)
        circuit.add(clamped, from_input, trace)
        s = field.initial_state(dynamics.drive) if start is None else start
        circuit.load(dynamics, s, onset)
        circuit.run((free + nudged) * settings["dt"])
        states = torch.from_numpy(
            np.concatenate((circuit.traces(monitors), circuit.state(batch)[None]))
        )
        time = np.arange(free + nudged + 1) * float(settings["dt"])
        traces = {"forward.1": from_input, **circuit.synapses}
        updates = _updates(circuit, traces, beta)
        weights = np.asarray(trace.trace).T
    trajectory = Trajectory(time, states.to(field.dtype), free)
    return Plasticity(updates, trajectory, weights)


def _input(circuit: Circuit, x: Tensor) -> tuple[object, object]:
    """The clamped input as a group, with plastic synapses onto the first layer.

    Its current is part of the first layer's drive; the synapses only carry the rule.
    """
    brian2 = load_brian2()
    group = brian2.NeuronGroup(x.numel(), "r : 1 (constant)", clock=circuit.clock)
    group.r = x.double().numpy().ravel()
    synapses = brian2.Synapses(
        group,
        circuit.layers[0],
        PLASTICITY,
        method="euler",
        clock=circuit.clock,
        namespace=circuit.namespace,
    )
    n_input, n_first = x.shape[1], circuit.field.shapes[1][0]
    all_to_all(synapses, circuit.batch, n_first, n_input)
    return group, synapses


def _updates(circuit: Circuit, traces: dict[str, object], beta: float) -> dict[str, Tensor]:
    field, batch, updates = circuit.field, circuit.batch, {}
    assert isinstance(field, LeakyField)

    def mean(values: object, *shape: int) -> Tensor:
        rows = np.asarray(values).reshape(batch, *shape)
        return torch.from_numpy(rows.mean(0) / beta).to(field.dtype)

    for name, parameter in field.parameters.items():
        if name.startswith("bias"):
            group = circuit.layers[int(name.rpartition(".")[2]) - 1]
            updates[name] = mean(group.moved, *parameter.shape)
        else:
            updates[name] = mean(traces[name].trace, *parameter.shape)  # pyright: ignore[reportAttributeAccessIssue]
    if field.tied:  # one parameter, shared by the synapses of both directions
        for k in range(1, len(field.layers)):
            shape = field.parameters[f"forward.{k + 1}"].T.shape
            backward = mean(traces[f"feedback.{k}"].trace, *shape)  # pyright: ignore[reportAttributeAccessIssue]
            updates[f"forward.{k + 1}"] += backward.T
    return updates
