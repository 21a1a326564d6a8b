"""A batch of networks as Brian2 groups: a NeuronGroup per layer, Synapses per weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.activations import ACTIVATIONS, LEAK
from bioplaus.costs import AbstractCost, CrossEntropy, SquaredError
from bioplaus.engines.package import METHODS, check_choice, load_brian2, spared_collection
from bioplaus.errors import InputError
from bioplaus.fields import LayeredField, VectorField
from bioplaus.fields.connections.base import units
from bioplaus.nudging import Layered, Symmetrised
from bioplaus.solvers.looking import DIVERGED_AT

MAX_SYNAPSES = 30_000_000
"""Above this number Brian2's arrays take gigabytes; each image has a copy of the synapses."""

COSTS = (SquaredError, CrossEntropy)
"""Costs whose slopes have an equation here; other classes of the same name do not count."""

RHO = {
    "tanh": "tanh(s)",
    "sigmoid": "1/(1 + exp(-s))",
    "sigmoid-4s-2": "1/(1 + exp(2 - 4*s))",
    "hard-sigmoid": "clip(s, 0, 1)",
    "softplus": "clip(s, 0, inf) + log1p(exp(-abs(s)))",
    "linear": "s",
    "relu": "clip(s, 0, inf)",
    "relu6": "clip(s, 0, 6)",
    "leaky-relu": f"clip(s, 0, inf) + {LEAK}*clip(s, -inf, 0)",
    "dsilu": "(1 + s/(1 + exp(s)))/(1 + exp(-s))",
}
"""The activations in Brian2's language; a test compares them with `bioplaus.activations`."""


class Circuit:
    """A field's batch as differential equations, tau ds/dt = F(s), with units.

    Each layer is one NeuronGroup of B n_k neurons, image by image. Each weight is one Synapses
    object with a copy of the weight for every image. Currents are `summed` synaptic variables,
    constant during a step (so that `rk4` and `exponential_euler` are of higher order only in the
    leak). The clamped input is a constant current. The nudge starts at the time `onset`. In the
    nudged phases of asym-ep, a second current runs backward through the same synapses.

    Attributes:
        field, batch: the network, and B.
        clock: the simulation's clock.
        layers: the neuron groups.
        synapses: Synapses objects by the weight's name.
        network: the Brian2 network.
    """

    def __init__(
        self,
        field: LayeredField,
        batch: int,
        cost: AbstractCost | None,
        *,
        tau: Any,
        dt: Any,
        method: str = "euler",
        symmetrised: bool = False,
        plastic: bool = False,
        spiking: bool = False,
    ) -> None:
        """Build the groups.

        Args:
            field: the network; `load` sets its parameters.
            batch: B.
            cost: squared error or cross-entropy, whose slope nudges the outputs; None: no nudge.
            tau: membrane time constant, a Brian2 quantity.
            dt: time step, a Brian2 quantity.
            method: `euler`, `exponential_euler` or `rk4`.
            symmetrised: whether to build the nudged phases of asym-ep.
            plastic: whether synapses integrate rho(s_pre) ds_post while the nudge is on.
            spiking: whether synapses transmit `arrived`, which spikes set, in place of rho(s); the
                integral of the state over time is recorded too.

        Raises:
            InputError: an unknown method, or too many synapses for typical memory.
        """
        brian2 = load_brian2()
        check_choice("method", method, METHODS)
        require_circuit(field, cost)
        self.field, self.batch, self.cost = field, batch, cost
        self.method, self.symmetrised, self.plastic = method, symmetrised, plastic
        self.spiking = spiking
        # if rho is linear in a box, W's current in asym-ep's nudged phase is that of the free state
        self._flat = symmetrised and field.is_linear() and any(each.box for each in field.specs)
        self.namespace = {"tau": tau, "inf": np.inf}
        self.joints = joints(field)
        count = batch * synapses_per_image(field)
        if count > MAX_SYNAPSES:
            raise InputError(
                f"{batch} images of this network are {count:,} synapses in Brian2, more than "
                f"{MAX_SYNAPSES:,}; use fewer images at once or a smaller network"
            )
        self.clock = brian2.Clock(dt=dt)
        self.relative_dt = float(dt / tau)
        self._watch: _Watch | None = None
        self.layers = [self._neurons(brian2, k) for k in range(len(field.layers))]
        self.synapses = {each.name: self._connect(brian2, each) for each in self.joints}
        self.network = brian2.Network(*self.layers, *self.synapses.values())
        if cost is not None and cost.name == "cross-entropy":
            self.network.add(self._normaliser(brian2))

    def add(self, *objects: Any) -> None:
        """Add monitors or further groups."""
        self.network.add(*objects)

    def load(self, dynamics: Layered, s: Tensor, onset: Any) -> None:
        """Set weights, inputs, nudge and state; remaining rows stay at rest.

        Args:
            dynamics: the field with its drive [b, n_1] and nudge, b <= B.
            s: the state, [b, n].
            onset: the time at which the nudge starts.
        """
        field, nudge = dynamics.field, dynamics.nudge
        for each in joints(field):
            self.synapses[each.name].w = np.tile(_numpy(each.matrix).ravel(), self.batch)
        states = field.split(s)
        for k, group in enumerate(self.layers):
            group.onset = onset
            bias = field.base(dynamics.drive, k)
            columns = {"s": states[k]}
            columns["bias"] = torch.zeros_like(states[k]) if bias is None else bias
            columns["bias"] = columns["bias"].expand(len(s), -1)
            if k == len(self.layers) - 1 and nudge is not None:
                columns |= {"y": nudge.target, "y_sum": nudge.target.sum(1, keepdim=True)}
                columns |= {"beta": nudge.beta}
                columns = {name: c.expand(-1, field.n_output) for name, c in columns.items()}
            if isinstance(dynamics, Symmetrised):
                rest, excess = dynamics.origin, dynamics.excess
                base = rest if excess is None else rest + excess
                parts = {"rest": rest, "slope": dynamics.slope, "base": base}
                columns |= {name: field.split(whole)[k] for name, whole in parts.items()}
            for name, values in columns.items():
                setattr(group, name, self._padded(values))

    def run(self, time: Any) -> None:
        """Continue the simulation for a duration."""
        with spared_collection():
            self.network.run(time, namespace={})

    def run_until(self, most: int, rows: int, tolerance: float, reach: int) -> int:
        """Continue the simulation until the first `rows` rows have settled.

        A row has settled if its change in one step of dt corresponds to a force
        ||F|| <= tolerance ||s||, or if it has diverged.

        Args:
            most: largest number of steps.
            rows: number of rows to check.
            tolerance: relative residual; 0 runs to the end.
            reach: number of steps before which no row counts as settled.

        Returns:
            The number of steps taken.
        """
        if self._watch is None:
            self._watch = _Watch(self)
        return self._watch.run(most, rows, tolerance, reach)

    def state(self, rows: int) -> Tensor:
        """The state of the first rows, [rows, n]."""
        parts = [np.asarray(g.s).reshape(self.batch, -1)[:rows] for g in self.layers]
        return torch.from_numpy(np.concatenate(parts, 1))

    def traces(self, monitors: list[Any], name: str = "s") -> np.ndarray:
        """The recordings of monitors of all layers, [T, B, n]."""
        parts = [np.asarray(getattr(m, name)) for m in monitors]
        return np.concatenate([p.T.reshape(p.shape[1], self.batch, -1) for p in parts], 2)

    def _padded(self, values: Tensor) -> np.ndarray:
        rows = np.zeros((self.batch, values.shape[1]))
        rows[: len(values)] = _numpy(values)
        return rows.ravel()

    def _neurons(self, brian2: Any, k: int) -> Any:
        field, last = self.field, k == len(self.field.layers) - 1
        equations = ["ds/dt = force/tau : 1", "bias : 1 (constant)", "onset : second (constant)"]
        # constant during a step; otherwise rk4 would see the nudge of the next one
        equations.append("nudged = int(t >= onset - dt/2) : 1 (constant over dt)")
        equations += [f"{name} : 1" for name in self._inputs(k)]
        rho = "s" if field.is_linear(k) else RHO[field.specs[k].rho.name]
        if self.spiking:
            equations += ["arrived : 1", "dtotal/dt = s/tau : 1"]
            rho = "arrived"
        current = " + ".join(["bias", *(n for n in self._inputs(k) if n.startswith("from"))])
        box = field.specs[k].box
        if self.symmetrised:
            equations += [f"{name} : 1 (constant)" for name in ("rest", "slope", "base")]
            back = " + ".join(n for n in self._inputs(k) if n.startswith("back")) or "0"
            displaced = "(s - rest)"
            if self._flat:
                current, displaced = "base", "slope*(s - rest)"
            else:
                # the nonlinear part of rho; zero where rho is the identity
                rho = "rest" if field.is_linear(k) else f"{rho} - slope*(s - rest)"
                displaced = displaced if box is None else "slope*(s - rest)"
            current = f"{current} + slope*({back})"
            equations.append(f"displaced = {displaced} : 1 (constant over dt)")
        equations.append(f"r = {rho} : 1 (constant over dt)")
        if last and self.cost is not None:
            equations += [f"{name} : 1 (constant)" for name in ("y", "y_sum", "beta")]
            guess = "s"
            if self.cost.name == "cross-entropy":
                equations.append("partition : 1")
                guess = "y_sum/partition"
            current = f"{current} - beta*({guess} - y)*nudged"
        if box is not None:
            current = f"clip({current}, {box[0]}, {box[1]})"
        equations.append(f"force = {current} - s : 1")
        if self.plastic:
            equations.append("dmoved/dt = force/tau*nudged : 1")
        group = brian2.NeuronGroup(
            self.batch * units(field.specs[k].size),
            "\n".join(equations),
            method=self.method,
            clock=self.clock,
            namespace=self.namespace,
        )
        # within a step: currents (-1), plastic synapses (0), and only then the membranes
        group.state_updater.order = 1
        return group

    def _inputs(self, k: int) -> list[str]:
        """The summed variables of a layer: `from_i` of synapse i, and `back_i` of its reverse."""
        here = () if self._flat else enumerate(self.joints)
        names = [f"from_{i}" for i, each in here if each.post == k]
        if self.symmetrised:
            names += [f"back_{i}" for i, each in enumerate(self.joints) if each.pre == k]
        return names

    def _connect(self, brian2: Any, joint: Joint) -> Any:
        pre, post, i = joint.pre, joint.post, self.joints.index(joint)
        model = ["w : 1 (constant)"]
        if f"from_{i}" in self._inputs(post):
            model.append(f"from_{i}_post = w*r_pre : 1 (summed)")
        if self.symmetrised:
            model.append(f"back_{i}_pre = w*displaced_post : 1 (summed)")
        if self.plastic:
            model.append(PLASTICITY)
        synapses = brian2.Synapses(
            self.layers[pre],
            self.layers[post],
            "\n".join(model),
            method="euler",
            clock=self.clock,
            namespace=self.namespace,
            name=f"synapses_{i}*",
        )
        all_to_all(synapses, self.batch, *joint.matrix.shape)
        return synapses

    def _normaliser(self, brian2: Any) -> Any:
        """sum_j exp(s_j - s_i) over the outputs of an image, whose inverse is the softmax."""
        outputs, m = self.layers[-1], self.field.n_output
        synapses = brian2.Synapses(
            outputs, outputs, "partition_post = exp(s_pre - s_post) : 1 (summed)", clock=self.clock
        )
        all_to_all(synapses, self.batch, m, m)
        return synapses


class _Watch:
    """Stops a circuit's simulation when all rows have settled; costs one norm per step."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        operation = load_brian2().NetworkOperation(self._look, clock=circuit.clock, when="end")
        circuit.add(operation)

    def run(self, most: int, rows: int, tolerance: float, reach: int) -> int:
        self.rows, self.tolerance, self.reach, self.steps = rows, tolerance, reach, 0
        self.before = self.circuit.state(rows)
        # a diverging state overflows; the residual shows it
        with np.errstate(over="ignore", invalid="ignore"):
            self.circuit.run(most * self.circuit.clock.dt)
        return self.steps

    def _look(self) -> None:
        self.steps += 1
        if self.tolerance == 0 or self.steps < self.reach - 1:
            return
        s = self.circuit.state(self.rows)
        force = torch.linalg.vector_norm(s - self.before, dim=1) / self.circuit.relative_dt
        size = torch.linalg.vector_norm(s, dim=1)
        self.before = s
        settled = (force <= self.tolerance * size) | ~(size < DIVERGED_AT * s.shape[1] ** 0.5)
        if self.steps >= self.reach and bool(settled.all()):
            self.circuit.network.stop()


PLASTICITY = "dtrace/dt = r_pre*force_post/tau*nudged_post : 1 (clock-driven)"
"""The local rule in continuous time: dW_ij/dt ~ rho(s_j) ds_i/dt while the nudge is on."""


def all_to_all(synapses: Any, batch: int, n_post: int, n_pre: int) -> None:
    """Connect image by image, in the order of a weight's entries [n_post, n_pre]."""
    image, post, pre = np.indices((batch, n_post, n_pre)).reshape(3, -1)
    synapses.connect(i=image * n_pre + pre, j=image * n_post + post)


def without_circuit(
    field: VectorField, cost: AbstractCost | None = None, kind: type[VectorField] = LayeredField
) -> str | None:
    """One line on why there is no circuit for a field and a cost; None if there is one.

    Args:
        field: the network.
        cost: the cost that nudges it.
        kind: the kind of fields that are supported.
    """
    if not isinstance(field, kind):
        return (
            f"the engine brian2 has no circuit for a {type(field).__name__} here; use a "
            f"{kind.__name__}, or the engine torch"
        )
    assert isinstance(field, LayeredField)
    for k, layer in enumerate(field.specs):
        known = layer.rho.name in RHO and ACTIVATIONS.get(layer.rho.name) is layer.rho
        if not field.is_linear(k) and not known:
            return (
                f"the engine brian2 has no equation for activation={layer.rho.name!r}; use one of "
                f"{', '.join(RHO)}, or the engine torch"
            )
    for c in field.connections:
        if not c.linear and c.source > 0:
            return (
                f"the engine brian2 has no synapses for {c.name}, whose current is not linear (a "
                "pooling?); use average pooling or none, or the engine torch"
            )
    if cost is not None and type(cost) not in COSTS:
        return (
            f"the engine brian2 has no equation for the cost {type(cost).__name__}; use one of "
            f"{', '.join(kind.name for kind in COSTS)}, or the engine torch"
        )
    return None


def require_circuit(
    field: VectorField, cost: AbstractCost | None = None, kind: type[VectorField] = LayeredField
) -> None:
    """Reject a field or a cost for which no circuit can be built.

    Raises:
        InputError: see `without_circuit`.
    """
    if reason := without_circuit(field, cost, kind):
        raise InputError(reason)


@dataclass(frozen=True, eq=False)
class Joint:
    """A recurrent connection as synapses.

    Attributes:
        name: name of the connection.
        pre, post: indices of the layers.
        matrix: all weights, with masks and signs applied, [n_post, n_pre].
    """

    name: str
    pre: int
    post: int
    matrix: Tensor


def joints(field: LayeredField) -> list[Joint]:
    """The recurrent connections; those from the clamped input are a constant current."""
    found = []
    for k, within in enumerate(field.wires.within):
        for j, wire in within:
            one = torch.eye(units(field.specs[j].size), dtype=field.dtype, device=field.device)
            found.append(Joint(wire.connection.name, j, k, wire.add(None, one).T))
    return found


def synapses_per_image(field: LayeredField) -> int:
    """Number of recurrent synapses per image."""
    size = [units(layer.size) for layer in field.specs]
    return sum(size[j] * size[k] for k, some in enumerate(field.wires.within) for j, _ in some)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
