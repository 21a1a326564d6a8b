"""Figures of one input in Brian2: phase portrait, membranes, spikes and synapses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

PHASE = 20
"""How long each phase is drawn, in membrane time constants."""


def check_portrait(path: Path, engine: str, overwrite: bool) -> None:
    """Tell before a run whether its figures can be drawn."""
    from bridge.report.policies import check_picture

    if engine != "brian2":
        raise click.UsageError("--plot draws simulations in Brian2: add --engine brian2")
    check_picture(path, overwrite)


def draw_portrait(path: Path, run: Any) -> list[str]:
    """Simulate a run's network on its first test image, and draw what happens.

    Returns:
        What was left out, and why.
    """
    from bioplaus.engines import Course
    from bioplaus.engines.package import duration
    from bioplaus.engines.spiking import BOUNDED
    from bridge.report.panels import draw_panels

    data, config = run.dataset, run.config
    x, y = data.shown.inputs[:1].double(), data.shown.targets[:1]
    parameters = {name: p.double() for name, p in run.field.parameters.items()}
    field = run.field.with_parameters(parameters)
    tau = duration("tau", config.phases.brian2.tau)
    times = {"free": PHASE * tau, "nudged": PHASE * tau}
    course = Course(tau=tau, dt=tau / 20, **times)
    with_nudge = {"beta": config.estimator.beta, "course": course}
    panels, left_out = _states(field, x, y, run.cost, with_nudge), []
    if field.activation.name in BOUNDED:
        panels.append(_raster(field, x, y, run.cost, with_nudge))
    else:
        left_out.append(f"no spikes: {field.activation.name} has no largest rate")
    if field.coordinates != "activity":
        panels.append(_synapses(field, x, y, run.cost, with_nudge))
    else:
        left_out.append("no synapses: the rule in continuous time is that of the membranes")
    draw_panels(path, panels)
    return left_out


def _states(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> list[Any]:
    """The phase portrait of two outputs, and membranes over time."""
    from bioplaus.engines import simulate
    from bridge.report.panels import Line, Panel

    run = simulate(field, x, y, cost, **with_nudge)
    s, label = run.states[:, 0].numpy(), int(y)
    outputs = s[:, field.output]
    others = outputs[run.onset].copy()
    others[label] = -np.inf
    rival = int(others.argmax())
    free, nudged = outputs[: run.onset + 1], outputs[run.onset :]
    portrait = Panel(
        f"state of output {rival} over that of output {label}, the label",
        f"state of output {label}",
        [
            Line("free", free[:, label], free[:, rival]),
            Line("nudged", nudged[:, label], nudged[:, rival]),
            Line("free fixed point", free[-1:, label], free[-1:, rival]),
            Line("nudged fixed point", nudged[-1:, label], nudged[-1:, rival]),
        ],
    )
    hidden = s[:, : field.output.start]
    moved = np.abs(hidden[-1] - hidden[run.onset]).argsort()[::-1][:3]
    time = 1e3 * run.time
    lines = [Line(f"output {k}", time, outputs[:, k]) for k in (label, rival)]
    lines += [Line(f"hidden {k}", time, hidden[:, k]) for k in moved]
    drawn = np.stack([np.asarray(line.y) for line in lines])
    lines.append(Line("nudge sets in", [time[run.onset]] * 2, [drawn.min(), drawn.max()]))
    return [portrait, Panel("membrane states", "time, ms", lines)]


def _raster(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> Any:
    """The spikes of the outputs' populations."""
    from bioplaus.engines import Population, spiking_estimate
    from bridge.report.panels import Line, Panel

    cells, course = 20, with_nudge["course"]
    run = spiking_estimate(
        *(field, x, y, cost),
        **with_nudge,
        population=Population(cells, code="lif"),
        settle=course.tau,
        raster=True,
    )
    assert run.raster is not None
    time, neuron = run.raster
    first = field.output.start * cells
    shown = neuron >= first
    rows = (neuron[shown] - first) / cells
    lines = [Line("spike", 1e3 * time[shown], rows, points=True)]
    lines.append(Line("nudge sets in", [1e3 * run.onset] * 2, [0, field.n - field.output.start]))
    return Panel(f"spikes by output, {cells} neurons each", "time, ms", lines)


def _synapses(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> Any:
    """What synapses into the outputs integrate while the nudge acts, from most up to most down."""
    from bioplaus.engines import integrate_rule
    from bridge.report.panels import Line, Panel

    below = field.sizes[-2]
    run = integrate_rule(field, x, y, cost, **with_nudge, watched=below * field.sizes[-1])
    time = 1e3 * run.trajectory.time[:-1]
    end = run.weights[-1]
    moving = [int(np.abs(end - value).argmin()) for value in np.linspace(end.max(), end.min(), 5)]
    lines = [
        Line(f"hidden {k % below} to output {k // below}", time, run.weights[:, k])
        for k in dict.fromkeys(moving)
    ]
    return Panel("integral of rho(s_j) ds_i: weights on their way", "time, ms", lines)
