"""Figures of one input in Brian2: phase portrait, membranes, spikes and synapses."""

from __future__ import annotations

from typing import Any

import numpy as np

PHASE = 20
"""Duration shown of each phase, in membrane time constants."""


def portrait(run: Any) -> tuple[list[Any], list[str]]:
    """Simulate a run's network on its first test image.

    Returns:
        Panels of the simulation; and a list of what was left out, with reasons.
    """
    from bioplaus.engines import Course
    from bioplaus.engines.package import duration
    from bioplaus.engines.spiking import BOUNDED

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
    return panels, left_out


def _states(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> list[Any]:
    """Phase portrait of two outputs, and membranes over time."""
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
    hidden = s[:, : field.output.start]
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


def _raster(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> Any:
    """Spikes of the outputs' populations."""
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
    spikes = Line("", 1e3 * time[shown], rows, points=True)
    return Panel(
        "Spikes of the outputs",
        "time, ms",
        [spikes],
        y_label=f"output, {cells} neurons each",
        events=[(1e3 * run.onset, "nudge")],
    )


def _synapses(field: Any, x: Any, y: Any, cost: Any, with_nudge: dict[str, Any]) -> Any:
    """What the synapses onto the outputs integrate during the nudge, largest to smallest."""
    from bioplaus.engines import integrate_rule
    from bridge.report.panels import Line, Panel

    below = field.sizes[-2]
    run = integrate_rule(field, x, y, cost, **with_nudge, watched=below * field.sizes[-1])
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
