"""A comparison as tables for the terminal and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bridge.runlog.compare import Comparison, Metric, over_seeds
from bridge.runlog.series import Curve, curves, plain_names

Table = tuple[str, Sequence[str], Sequence[Sequence[Any]]]


def comparison_tables(found: Comparison) -> list[Table]:
    """Give title, columns and rows of each table that has something to say."""
    numbers = [f"#{i + 1}" for i in range(len(found.runs))]
    return [
        each
        for each in (
            _runs(found, numbers),
            _configs(found),
            _metrics(found, numbers),
            _seeds(found),
            _ranking(found),
        )
        if each[2]
    ]


def final_table(found: Comparison) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Give the last value of every metric of every config: columns, and a row a metric.

    It is that of the last step that the runs of the config share: the mean over its seeds with half
    of the confidence interval.
    """
    seeds = [run.meta["seed"] for run in found.runs]
    of_runs = [curves(run) for run in found.runs]
    names = dict.fromkeys(name for each in of_runs for name in plain_names(each))
    rows = []
    for name in names:
        cells = []
        for group in found.groups:
            members = [i for i in group.members if name in of_runs[i]]
            given = [of_runs[i][name] for i in members]
            cells.append(_last(given, [seeds[i] for i in members]) if given else "")
        if any(cells):
            rows.append((name, *cells))
    heads = [
        f"{g.label} ({len(g.seeds)} seeds)" if len(g.seeds) > 1 else g.label for g in found.groups
    ]
    return ("metric", *heads), rows


def _last(given: Sequence[Curve], seeds: Sequence[int]) -> str:
    steps, spread = over_seeds(given, seeds)
    if not len(steps):
        return ""
    mean, half = spread.mean[-1].item(), spread.half_width[-1].item()
    return f"{mean:.4g}" if spread.n < 2 else f"{mean:.4g} ± {half:.2g}"


def comparison_json(found: Comparison, *, with_curves: bool) -> dict[str, Any]:
    """Give the comparison as JSON can say it.

    Args:
        found: the comparison.
        with_curves: add steps, values and confidence intervals of every metric.
    """
    labels = _labels(found)
    return {
        "runs": [
            {
                "log": str(run.path),
                "run_id": run.meta["run_id"],
                "state": run.state,
                "seed": run.meta["seed"],
                "config": labels[i],
                "config_sha256": run.meta["config_sha256"],
            }
            for i, run in enumerate(found.runs)
        ],
        "config_differences": dict(found.config_differences),
        "metrics": {n: _metric_json(m, with_curves) for n, m in found.metrics.items()},
        "ranking": [{**vars(rank), "settings": dict(rank.settings)} for rank in found.ranking],
        "exceeded": [vars(excess) for excess in found.exceeded],
        "sampled": dict(found.sampled),
    }


def _metric_json(metric: Metric, with_curves: bool) -> dict[str, Any]:
    difference, step = metric.largest_difference
    about: dict[str, Any] = {
        "common_steps": metric.common_steps,
        "last_common_step": int(metric.steps[-1]),
        "largest_difference": difference,
        "at_step": step,
        "last": metric.values[:, -1],
        "configs": {
            label: {"mean": s.mean[-1].item(), "half_width": s.half_width[-1].item(), "seeds": s.n}
            for label, s in metric.spreads.items()
        },
    }
    if with_curves:
        about["steps"] = metric.steps
        about["values"] = metric.values
        about["means"] = {label: s.mean for label, s in metric.spreads.items()}
        about["half_widths"] = {label: s.half_width for label, s in metric.spreads.items()}
    return about


def _labels(found: Comparison) -> dict[int, str]:
    return {i: group.label for group in found.groups for i in group.members}


def _runs(found: Comparison, numbers: Sequence[str]) -> Table:
    labels = _labels(found)
    rows = [
        (number, labels[i], run.meta["seed"], run.state, str(run.path))
        for i, (number, run) in enumerate(zip(numbers, found.runs, strict=True))
    ]
    return "logs", ("", "config", "seed", "state", "log"), rows


def _configs(found: Comparison) -> Table:
    firsts = [group.members[0] for group in found.groups]
    rows = [
        (key, *(_text(values[i]) for i in firsts))
        for key, values in found.config_differences.items()
    ]
    return "\nconfigs differ in", ("key", *(group.label for group in found.groups)), rows


def _metrics(found: Comparison, numbers: Sequence[str]) -> Table:
    rows = []
    for name, metric in found.metrics.items():
        difference, step = metric.largest_difference
        last = metric.values[:, -1].tolist()
        rows.append((name, metric.common_steps, *last, difference, step))
    columns = ("metric", "common steps", *numbers, "largest difference", "at step")
    return "\nmetrics at the last common step", columns, rows


def _seeds(found: Comparison) -> Table:
    """The means of configs that were run with several seeds."""
    several = [group for group in found.groups if len(group.seeds) > 1]
    rows = [
        (name, *(_interval(metric, group.label) for group in several))
        for name, metric in found.metrics.items()
        if several
    ]
    heads = [f"{group.label} ({len(group.seeds)} seeds)" for group in several]
    return "\nmean and 95 % confidence interval at the last common step", ("metric", *heads), rows


def _interval(metric: Metric, label: str) -> str:
    spread = metric.spreads[label]
    return f"{spread.mean[-1]:.4g} +- {spread.half_width[-1]:.2g}"


def _ranking(found: Comparison) -> Table:
    settings = list(dict.fromkeys(key for rank in found.ranking for key in rank.settings))
    rows = [
        (
            i + 1,
            rank.estimator,
            *(rank.settings.get(key) for key in settings),
            rank.angle_degrees,
            rank.smallest,
            rank.largest,
            rank.checks,
            rank.unconverged,
        )
        for i, rank in enumerate(found.ranking)
    ]
    columns = (
        "",
        "estimator",
        *settings,
        "angle (degrees)",
        "smallest",
        "largest",
        "checks",
        "unconverged",
    )
    return "\ngradient estimates by angle to the true gradient", columns, rows


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)
