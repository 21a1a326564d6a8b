"""A comparison as tables for the terminal and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bridge.runlog.choosing import named
from bridge.runlog.compare import Comparison, Metric, over_seeds
from bridge.runlog.paired import Estimate, Verdict, with_error
from bridge.runlog.series import Curve, curves, plain_names

Table = tuple[str, Sequence[str], Sequence[Sequence[Any]]]


def comparison_tables(found: Comparison) -> list[Table]:
    """Give title, columns and rows of each table that is not empty."""
    numbers = [f"#{i + 1}" for i in range(len(found.runs))]
    tables = (
        verdict_table(found),
        _runs(found, numbers),
        _configs(found),
        *_metrics(found, numbers),
        _ranking(found),
    )
    given = [each for each in tables if each[2]]
    return [(f"\n{t}" if i else t, columns, rows) for i, (t, columns, rows) in enumerate(given)]


def verdict_table(found: Comparison) -> Table:
    """Give the headline of each config over its seeds, and its paired difference from the first.

    The interval is a 95 % confidence interval (Student's t). If the runs share no headline, the
    table is empty.
    """
    verdict = found.verdict
    if verdict is None or not verdict.outcomes:
        return "", (), ()
    headline, first = verdict.headline, verdict.outcomes[0]
    settings = dict(zip((g.label for g in found.groups), _settings(found), strict=True))
    several = len(verdict.outcomes) > 1
    rows = []
    for outcome in verdict.outcomes:
        mean, difference = outcome.estimate, outcome.difference
        row = [outcome.label, settings[outcome.label], mean.n]
        row.append(with_error(mean.mean, mean.half_width))
        if several and outcome is not first:
            row += [_paired(difference), _pairs(difference), outcome.verdict(headline)]
        elif several:
            row += ["", None, ""]
        rows.append(row)
    columns = ["config", "settings", "seeds", headline.title]
    columns += [f"minus {first.label}", "pairs", ""] if several else []
    keep = [i for i, name in enumerate(columns) if name != "settings" or several]
    title = f"{headline.title}, {headline.better} is better; {_when(verdict)}"
    return title, [columns[i] for i in keep], [[row[i] for i in keep] for row in rows]


def _when(verdict: Verdict) -> str:
    steps = {step for outcome in verdict.outcomes for step in outcome.steps}
    if len(steps) == 1:
        return f"at step {max(steps)}"
    return f"at the last step of each run, which differ: {min(steps)} to {max(steps)}"


def _paired(difference: Estimate | None) -> str:
    return "no seed in common" if difference is None else _signed(difference)


def _signed(found: Estimate) -> str:
    text = with_error(found.mean, found.half_width)
    return text if text.startswith(("-", "(")) else f"+{text}"


def _pairs(difference: Estimate | None) -> int:
    return 0 if difference is None else difference.n


def _settings(found: Comparison) -> list[str]:
    """List the settings of each config that differ between configs."""
    firsts = [group.members[0] for group in found.groups]
    return [
        named({key: values[i] for key, values in found.config_differences.items()}) for i in firsts
    ]


def final_tables(found: Comparison) -> list[Table]:
    """Give the last values of each config: one table per table of the log, one row per metric.

    A value belongs to the last step that the runs of the config share: the mean over seeds with
    half the confidence interval. Rows written at different times, such as per step and per epoch,
    are in different tables.
    """
    seeds = [run.meta["seed"] for run in found.runs]
    of_runs = [curves(run) for run in found.runs]
    names = dict.fromkeys(name for each in of_runs for name in plain_names(each))
    rows: dict[str, list[Sequence[Any]]] = {}
    for name in names:
        cells = []
        for group in found.groups:
            members = [i for i in group.members if name in of_runs[i]]
            given = [of_runs[i][name] for i in members]
            cells.append(_last(given, [seeds[i] for i in members]) if given else "")
        if any(cells):
            table, _, column = name.partition("/")
            rows.setdefault(table, []).append((column, *cells))
    heads = [
        f"{g.label} ({len(g.seeds)} seeds)" if len(g.seeds) > 1 else g.label for g in found.groups
    ]
    return [(table, ("metric", *heads), rows[table]) for table in _headline_first(found, rows)]


def _headline_first(found: Comparison, tables: Iterable[str]) -> list[str]:
    """Put the headline's table before the others."""
    chosen = found.verdict.headline.table if found.verdict else ""
    return sorted(tables, key=lambda table: table != chosen)


def _last(given: Sequence[Curve], seeds: Sequence[int]) -> str:
    steps, spread = over_seeds(given, seeds)
    if not len(steps):
        return ""
    return with_error(spread.mean[-1].item(), spread.half_width[-1].item())


def comparison_json(found: Comparison, *, with_curves: bool) -> dict[str, Any]:
    """Give the comparison as JSON values.

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
        "headline": None if found.verdict is None else _verdict_json(found.verdict),
        "config_differences": dict(found.config_differences),
        "metrics": {n: _metric_json(m, with_curves) for n, m in found.metrics.items()},
        "ranking": _ranking_json(found),
        "exceeded": [vars(excess) for excess in found.exceeded],
        "sampled": dict(found.sampled),
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    headline = verdict.headline
    return {
        **headline.model_dump(include={"metric", "better", "unit"}),
        "label": headline.name,
        "configs": {
            outcome.label: {
                "by_seed": dict(outcome.by_seed),
                **vars(outcome.estimate),
                "difference": outcome.difference and vars(outcome.difference),
                "verdict": outcome.verdict(headline),
                "steps": outcome.steps,
            }
            for outcome in verdict.outcomes
        },
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
    return "configs differ in", ("key", *(group.label for group in found.groups)), rows


def _metrics(found: Comparison, numbers: Sequence[str]) -> list[Table]:
    """Give the metrics at the last common step, one table per table of the log.

    With several seeds there is one column per config, with the 95 % confidence interval of its
    mean.
    """
    several = any(len(group.seeds) > 1 for group in found.groups)
    heads = [f"{g.label} ({len(g.seeds)} seeds)" for g in found.groups] if several else numbers
    columns = ("metric", *heads, "largest difference", "at step")
    tables: dict[tuple[str, int, int], list[Sequence[Any]]] = {}
    for name, metric in found.metrics.items():
        table, _, column = name.partition("/")
        place = (table, metric.common_steps, int(metric.steps[-1]))
        values = metric.values[:, -1].tolist()
        if several:
            spreads = metric.spreads.values()
            values = [with_error(s.mean[-1].item(), s.half_width[-1].item()) for s in spreads]
        tables.setdefault(place, []).append((column, *values, *metric.largest_difference))
    order = _headline_first(found, dict.fromkeys(table for table, _, _ in tables))
    note = "; mean ± 95 % confidence interval" if several else ""
    return [
        (f"{table} at step {last}, the last of {n} in common{note}", columns, rows)
        for (table, n, last), rows in sorted(
            tables.items(), key=lambda each: order.index(each[0][0])
        )
    ]


def _ranking_json(found: Comparison) -> list[dict[str, Any]]:
    contest = found.contest
    if contest is None:
        return []
    return [
        {
            contest.of: rank.name,
            "settings": dict(rank.settings),
            contest.by: rank.mean,
            "smallest": rank.smallest,
            "largest": rank.largest,
            contest.counted: rank.counted,
            contest.left_out: rank.left_out,
        }
        for rank in found.ranking
    ]


def _ranking(found: Comparison) -> Table:
    contest = found.contest
    if contest is None:
        return "", (), []
    settings = list(dict.fromkeys(key for rank in found.ranking for key in rank.settings))
    rows = [
        (
            i + 1,
            rank.name,
            *(rank.settings.get(key) for key in settings),
            rank.mean,
            rank.smallest,
            rank.largest,
            rank.counted,
            rank.left_out,
        )
        for i, rank in enumerate(found.ranking)
    ]
    columns = (
        "",
        contest.of,
        *settings,
        contest.by_title,
        "smallest",
        "largest",
        contest.counted,
        contest.left_out,
    )
    return contest.title, columns, rows


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)
