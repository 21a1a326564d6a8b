"""Figures of one input in Brian2: phase portrait, membranes, spikes and synapses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from bioplaus.costs import AbstractCost
    from bioplaus.engines import Course
    from bioplaus.fields import LeakyField
    from bioplaus.training import Run
    from bridge.report.panels import Panel

PHASE = 20
"""Duration shown of each phase, in membrane time constants."""


@dataclass(frozen=True)
class _Trial:
    """One input [1, n_in] with its target, shown to a network: a free phase, then a nudged one."""

    field: LeakyField
    x: Tensor
    y: Tensor
    cost: AbstractCost
    beta: float
    course: Course


def portrait(run: Run, tau: str, beta: float) -> tuple[list[Panel], list[str]]:
    """Simulate a run's network on its first test image.

    Args:
        run: the run, whose phases Brian2 simulates.
        tau: its membrane time constant, with a unit.
        beta: its nudging strength.

    Returns:
        Panels of the simulation; and a list of what was left out, with reasons.
    """
    from bioplaus.engines import Course
    from bioplaus.engines.package import duration
    from bioplaus.engines.spiking import BOUNDED
    from bioplaus.fields import LeakyField

    shown, constant = run.dataset.shown, duration("tau", tau)
    parameters = {name: p.double() for name, p in run.field.parameters.items()}
    field = run.field.with_parameters(parameters)
    assert isinstance(field, LeakyField)
    trial = _Trial(
        field,
        shown.inputs[:1].double(),
        shown.targets[:1],
        run.cost,
        beta,
        Course(constant, constant / 20, PHASE * constant, PHASE * constant),
    )
    panels, left_out = _states(trial), []
    if field.activation.name in BOUNDED:
        panels.append(_raster(trial))
    else:
        left_out.append(f"no spikes: {field.activation.name} has no largest rate")
    if field.coordinates != "activity":
        panels.append(_synapses(trial))
    else:
        left_out.append("no synapses: the rule in continuous time is that of the membranes")
    return panels, left_out


def _states(trial: _Trial) -> list[Panel]:
    """Phase portrait of two outputs, and membranes over time."""
    from bioplaus.engines import simulate
    from bridge.report.panels import Line, Panel

    t, output = trial, trial.field.output
    run = simulate(t.field, t.x, t.y, t.cost, beta=t.beta, course=t.course)
    s, label = run.states[:, 0].numpy(), int(t.y)
    outputs = s[:, output]
    others = outputs[run.onset].copy()
    others[label] = -np.inf
    rival = int(others.argmax())
    free, nudged = outputs[: run.onset + 1], outputs[run.onset :]
    portrait = Panel(
        "Two outputs through both phases",
        f"state of output {label}, the label",
        [
            Line("", free[:, label], free[:, rival], style=0),
            Line("", nudged[:, label], nudged[:, rival], style=1),
            Line("free", free[-1:, label], free[-1:, rival], style=0),
            Line("nudged", nudged[-1:, label], nudged[-1:, rival], style=1),
        ],
        y_label=f"state of output {rival}",
    )
    hidden = s[:, : output.start]
    moved = np.abs(hidden[-1] - hidden[run.onset]).argsort()[::-1][:3]
    time = 1e3 * run.time
    lines = [Line(f"output {k}", time, outputs[:, k]) for k in (label, rival)]
    lines += [Line(f"hidden {k}", time, hidden[:, k]) for k in moved]
    membranes = Panel(
        "Membranes",
        "time, ms",
        lines,
        y_label="state",
        references=[(0, "")],
        events=[(time[run.onset], "nudge")],
    )
    return [portrait, membranes]


def _raster(trial: _Trial) -> Panel:
    """Spikes of the outputs' populations."""
    from bioplaus.engines import Population, spiking_estimate
    from bridge.report.panels import Line, Panel

    cells, t = 20, trial
    run = spiking_estimate(
        *(t.field, t.x, t.y, t.cost),
        beta=t.beta,
        course=t.course,
        population=Population(cells, code="lif"),
        settle=t.course.tau,
        raster=True,
    )
    assert run.raster is not None
    time, neuron = run.raster
    first = t.field.output.start * cells
    shown = neuron >= first
    rows = (neuron[shown] - first) / cells
    spikes = Line("", 1e3 * time[shown], rows, points=True)
    return Panel(
        "Spikes of the outputs",
        "time, ms",
        [spikes],
        y_label=f"output, {cells} neurons each",
        events=[(1e3 * run.onset, "nudge")],
    )


def _synapses(trial: _Trial) -> Panel:
    """What the synapses onto the outputs integrate during the nudge, largest to smallest."""
    from bioplaus.engines import integrate_rule
    from bridge.report.panels import Line, Panel

    t, (below, above) = trial, trial.field.sizes[-2:]
    run = integrate_rule(
        *(t.field, t.x, t.y, t.cost), beta=t.beta, course=t.course, watched=below * above
    )
    time = 1e3 * run.trajectory.time[:-1]
    end = run.weights[-1]
    moving = [int(np.abs(end - value).argmin()) for value in np.linspace(end.max(), end.min(), 5)]
    lines = [
        Line(f"{k % below} to {k // below}", time, run.weights[:, k]) for k in dict.fromkeys(moving)
    ]
    return Panel(
        "Synapses, hidden to output",
        "time, ms",
        lines,
        y_label="integral of rho(s_j) ds_i",
        references=[(0, "")],
        events=[(1e3 * run.trajectory.time[run.trajectory.onset], "nudge")],
    )
