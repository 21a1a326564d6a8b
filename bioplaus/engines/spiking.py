"""A field with spikes between its units: populations whose filtered rates follow the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.engines.brian2 import Course, nudged_dynamics
from bioplaus.engines.circuit import RHO, Circuit, require_circuit
from bioplaus.engines.package import check_choice, duration, frequency, generated, load_brian2
from bioplaus.errors import InputError
from bioplaus.estimators import get_estimator
from bioplaus.fields import LeakyField

CODES = ("poisson", "lif")
BOUNDED = ("tanh", "sigmoid", "sigmoid-4s-2", "hard-sigmoid")
LINEAR_SPAN = 2.0
"""The largest |rho| that a population can represent; linear units saturate there."""
MAX_CELLS = 4_000_000
RESET = "v = current*(v - 1)/(current - 1)"
"""The membrane at the end of the step in which it fired, with the reset to 0 at the spike's time:
v - 1 = (I - 1)(1 - exp(-theta/tau)) above the threshold, I (1 - exp(-theta/tau)) from 0."""


@dataclass(frozen=True)
class Population:
    """The neurons that represent one unit.

    Attributes:
        cells: neurons per unit; even if rho takes both signs (tanh, linear units), because half
            of them then fire for positive and half for negative values.
        top: rate of a neuron at the largest |rho| (1; 2 for linear units), with its unit.
        code: `poisson`, spikes drawn at the rate; or `lif`, leaky integrate-and-fire neurons
            with a current that gives the desired stationary rate.
        membrane: membrane time constant of the `lif` neurons.
    """

    cells: int = 100
    top: Any = "100 Hz"
    code: str = "poisson"
    membrane: Any = "20 ms"

    def check(self, field: LeakyField, rows: int, dt: Any) -> None:
        """Reject settings that cannot be simulated.

        Raises:
            InputError: a wrong unit, code or activation, a rate of more than one spike per step, or
                too many neurons for typical memory.
        """
        check_choice("code", self.code, CODES)
        duration("membrane", self.membrane)
        if self.cells < 1:
            raise InputError(f"cells={self.cells} must be one neuron a unit or more")
        if float(frequency("top", self.top) * dt) > 1:
            raise InputError(f"top={self.top!r} is more than a spike a step; use a shorter dt")
        for k in range(len(field.layers)):
            if not field.is_linear(k) and field.activation.name not in BOUNDED:
                raise InputError(
                    f"activation={field.activation.name!r} has no largest rate; spikes need one "
                    f"of {', '.join(BOUNDED)}"
                )
            if is_signed(field, k) and self.cells % 2:
                raise InputError(
                    f"cells={self.cells} must be even: layer {k + 1} takes both signs, half of "
                    "its neurons fire for each"
                )
        if rows * field.n * self.cells > MAX_CELLS:
            raise InputError(
                f"{rows * field.n * self.cells:,} neurons are more than {MAX_CELLS:,}; use fewer "
                "neurons a unit, fewer inputs or a smaller network"
            )


@dataclass(frozen=True)
class Spiking:
    """The result of a simulation with spikes: averages over the integration time of each phase.

    Attributes:
        updates: name -> tensor, the estimate of -dJ/dtheta, averaged over the batch.
        free: mean state without a nudge, [B, n].
        plus, minus: mean states under +beta and -beta, [B, n].
        spikes: total number of spikes.
        raster: if requested, the spikes for the first input under +beta: time in seconds and
            neuron, [spikes] each; neurons are numbered unit by unit, `cells` per unit.
        onset: when the nudge started, in seconds.
    """

    updates: dict[str, Tensor]
    free: Tensor
    plus: Tensor
    minus: Tensor
    spikes: int
    raster: tuple[np.ndarray, np.ndarray] | None
    onset: float


def spiking_estimate(
    field: LeakyField,
    x: Tensor,
    y: Tensor,
    cost: str | AbstractCost = "squared-error",
    *,
    beta: float = 0.5,
    population: Population | None = None,
    course: Course | None = None,
    settle: Any = "100 ms",
    seed: int = 0,
    raster: bool = False,
) -> Spiking:
    """Estimate the gradient with units that communicate only by spikes.

    tau ds_i/dt = -s_i + b_i + sum_j W_ij q_j, where q_j = (span / (N nu dt)) (spikes of population
    j in a step, signed) has the mean rho(s_j), and nu is the largest rate. s filters the spikes
    with tau; its average over a time T has a standard deviation of order 1/sqrt(N nu T) (Poisson).
    Each input is simulated twice, with a free phase and then a nudge of +beta or -beta; the rule is

        dW_ij = rho(s_j^0) (s_i^+ - s_i^-) / (2 beta)

    over the averaged states, those of the free phase from both simulations.

    Args:
        field: the network, in any coordinates; its activations must be bounded or linear. States
            in a box are simulated without it, with rho as their clip.
        x: clamped input, [B, n_in]; it enters as a constant current.
        y: labels [B] or targets [B, m].
        cost: name or object.
        beta: the nudge, not zero.
        population: the neurons of each unit.
        course: tau and dt; `free` and `nudged` are the integration times of the two phases, by
            default one second each; the method is Euler.
        settle: duration of each phase before the integration starts.
        seed: seed of the spikes.
        raster: whether to record every spike for the first input.

    Raises:
        InputError: a setting outside its range, see `Population.check`.
    """
    require_circuit(field, kind=LeakyField)
    boxed, field = field, _unboxed(field)
    population = population or Population()
    course = course or Course(free="1 second", nudged="1 second")
    if beta == 0 or course.nudged is None:
        raise InputError("an estimate needs a nudged phase: give beta != 0 and course.nudged")
    check_choice("target", course.target, ("numpy", "cython"))
    check_choice("method", course.method, ("euler",))
    quantities = course.quantities()
    tau, dt = quantities["tau"], quantities["dt"]
    population.check(field, 2 * len(x), dt)
    signs = torch.ones(len(x), 1, dtype=field.dtype)
    strength = beta * torch.cat((signs, -signs))
    dynamics = nudged_dynamics(field, x.repeat(2, 1), _twice(y), cost, strength, course)
    assert dynamics.nudge is not None
    wait = duration("settle", settle)
    times = [duration("free", course.free), duration("nudged", course.nudged)]
    onset = wait + times[0]
    with generated(course.target):
        brian2 = load_brian2()
        brian2.seed(seed)
        circuit = Circuit(field, 2 * len(x), dynamics.nudge.cost, spiking=True, **quantities)
        depth = len(field.layers)
        monitors = [_spikes(circuit, k, population, seed, raster) for k in range(depth)]
        circuit.load(dynamics, field.initial_state(dynamics.drive), onset)
        means = [_mean_state(circuit, wait, time, tau, 2 * len(x)) for time in times]
        count = int(sum(monitor.num_spikes for monitor in monitors))
        drawn = _raster(field, population, monitors) if raster else None
    free = means[0].unflatten(0, (2, -1)).mean(0).to(field.dtype)
    plus, minus = (part.to(field.dtype) for part in means[1].chunk(2))
    kind: Any = get_estimator("vector-field")
    delta = kind(beta=beta).displacement(field, minus, plus - minus) / (2 * beta)
    updates = field.local_update(x, free, delta)
    free, plus, minus = (_confined(boxed, part) for part in (free, plus, minus))
    return Spiking(updates, free, plus, minus, count, drawn, float(onset))


def _mean_state(circuit: Circuit, wait: Any, time: Any, tau: Any, batch: int) -> Tensor:
    """Let a phase settle, then average the states over a time, [batch, n]."""
    circuit.run(wait)
    for group in circuit.layers:
        group.total = 0
    circuit.run(time)
    totals = [np.asarray(group.total).reshape(batch, -1) for group in circuit.layers]
    return torch.from_numpy(np.concatenate(totals, 1) * float(tau / time))


def is_signed(field: LeakyField, k: int) -> bool:
    """Whether a layer's rho takes both signs."""
    return field.is_linear(k) or field.activation.name == "tanh"


def _unboxed(field: LeakyField) -> LeakyField:
    """The same network without boxes, because clipping single spikes would lose most of them.

    With rho(s) = clip(s, 0, 1) of unbounded states, the activities at a fixed point are the clipped
    states, and the rule in activity coordinates is the rule in clipped coordinates.
    """
    if field.coordinates != "clipped":
        return field
    other = LeakyField(
        field.sizes,
        field.activation.name,
        tied=field.tied,
        coordinates="activity",
        linear_output=field.linear_output,
        dtype=field.dtype,
    )
    return other.with_parameters(field.parameters)


def _confined(field: LeakyField, s: Tensor) -> Tensor:
    for k, part in enumerate(field.split(s)):
        field.confine(part, k)
    return s


def _twice(y: Tensor) -> Tensor:
    return torch.cat((y, y))


def _spikes(circuit: Circuit, k: int, population: Population, seed: int, record: bool) -> Any:
    """Insert the populations of a layer between its states and its outgoing synapses.

    Order within a step: synapses transmit the spikes of the previous step, states move, `arrived`
    is cleared, neurons fire and their spikes arrive.
    """
    brian2 = load_brian2()
    field, units, cells = circuit.field, circuit.layers[k], population.cells
    assert isinstance(field, LeakyField)
    signed = is_signed(field, k)
    span = LINEAR_SPAN if field.is_linear(k) else 1.0
    rho = "s" if field.is_linear(k) else RHO[field.activation.name]
    top = frequency("top", population.top)
    equations = f"""
        s : 1 (linked)
        polarity : 1 (constant)
        rate = top*clip(polarity*({rho})/span, 0, 1) : Hz
    """
    namespace = {"top": top, "span": span, "inf": np.inf}
    if population.code == "poisson":
        how = {"threshold": "rand() < rate*dt"}
    else:
        namespace["membrane"] = duration("membrane", population.membrane)
        # v -> current at this rate: the stationary rate is 1/(membrane log(I/(I - 1)))
        equations += """
            current = 1/(1 - exp(-1/(membrane*clip(rate/Hz, 1e-6, inf)*Hz))) : 1 (constant over dt)
            dv/dt = (current - v)/membrane : 1
        """
        how = {"threshold": "v > 1", "reset": RESET, "method": "exponential_euler"}
    count = len(units)
    group = brian2.NeuronGroup(
        count * cells, equations, clock=circuit.clock, namespace=namespace, **how
    )
    group.s = brian2.linked_var(units, "s", index=np.repeat(np.arange(count), cells))
    group.polarity = np.tile([1.0, -1.0], count * cells // 2) if signed else 1.0
    if population.code == "lif":
        group.v = np.random.default_rng([seed, k]).random(count * cells)
    voices = cells // 2 if signed else cells
    kick = float(span / (voices * top * circuit.clock.dt))
    arrival = brian2.Synapses(
        group,
        units,
        on_pre="arrived_post += kick*polarity_pre",
        clock=circuit.clock,
        namespace={"kick": kick},
    )
    arrival.connect(i=np.arange(count * cells), j=np.repeat(np.arange(count), cells))
    clearing = units.run_regularly("arrived = 0", clock=circuit.clock, when="thresholds", order=-1)
    monitor = brian2.SpikeMonitor(group, record=record)
    circuit.add(group, arrival, clearing, monitor)
    return monitor


def _raster(
    field: LeakyField, population: Population, monitors: list[Any]
) -> tuple[np.ndarray, np.ndarray]:
    times, cells = [], []
    for k, (monitor, here) in enumerate(zip(monitors, field.layers, strict=True)):
        number = np.asarray(monitor.i)
        first = number < field.sizes[k + 1] * population.cells
        times.append(np.asarray(monitor.t)[first])
        cells.append(number[first] + here.start * population.cells)
    return np.concatenate(times), np.concatenate(cells)
