"""Compare logs: where they differ, by how much, and what they show together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.config import flatten
from bridge.errors import InputError
from bridge.headline import Contest
from bridge.runlog.paired import Verdict, common_headline, half_widths, judged
from bridge.runlog.ranking import Rank, ranked
from bridge.runlog.reader import Run
from bridge.runlog.results import Known
from bridge.runlog.series import Curve, at, common_steps, curves, match, plain_names
from bridge.runlog.thin import Exact, largest_difference, read_thinned


@dataclass(frozen=True)
class Group:
    """Runs of one config that differ only in the seed.

    Args:
        label: a letter, A for the first config.
        members: indices of its runs in the comparison.
        seeds: their seeds, without repeats.
    """

    label: str
    members: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds of one config; arrays over the common steps.

    Args:
        mean: over the seeds; runs of equal seed are averaged first.
        half_width: of the 95 % confidence interval, t_{n-1} sd / sqrt(n); NaN for one seed.
        n: number of seeds.
    """

    mean: NDArray[np.float64]
    half_width: NDArray[np.float64]
    n: int


@dataclass(frozen=True)
class Metric:
    """One metric of all runs.

    Args:
        name: "table/column".
        curves: one per run.
        steps: the steps that all runs have.
        values: [runs, steps].
        spreads: by the label of a config.
        exact: values from all rows, if the other fields use only some of them.
    """

    name: str
    curves: tuple[Curve, ...] = field(repr=False)
    steps: NDArray[np.int64] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    spreads: Mapping[str, Spread] = field(repr=False)
    exact: Exact | None = None

    @property
    def common_steps(self) -> int:
        """Number of steps that all runs have."""
        return self.exact.steps if self.exact else len(self.steps)

    @property
    def differences(self) -> NDArray[np.float64]:
        """Each run minus the first, [runs, steps]."""
        return self.values - self.values[0]

    @property
    def largest_difference(self) -> tuple[float, int]:
        """The largest difference between any two runs at a common step, and that step.

        Two NaNs do not differ; NaN and a number differ by infinity.
        """
        if self.exact:
            return self.exact.difference, self.exact.at_step
        return largest_difference(self.values, self.steps)


@dataclass(frozen=True)
class Excess:
    """A metric that exceeds its tolerance."""

    metric: str
    difference: float
    step: int
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.metric} differs by {self.difference:.4g} at step {self.step}; "
            f"tolerance {self.tolerance:.4g}"
        )


@dataclass(frozen=True)
class Comparison:
    """The comparison of several logs.

    Args:
        runs: in the order given.
        groups: by config.
        config_differences: the values of each run, by dotted key; only keys that differ, without
            the seed.
        metrics: by name.
        ranking: the contestants, best first; empty without a contest or a table that has one.
        exceeded: the metrics that exceed their tolerances.
        contest: what is ranked by what.
        verdict: the headline of the configs, if all runs have the same.
        sampled: long tables of which `runs` and `metrics` hold only some rows, with the most rows
            of any run, see `thin`; counts and largest differences are over all rows.
    """

    runs: tuple[Run, ...]
    groups: tuple[Group, ...]
    config_differences: Mapping[str, tuple[Any, ...]]
    metrics: Mapping[str, Metric]
    ranking: tuple[Rank, ...]
    exceeded: tuple[Excess, ...]
    contest: Contest | None = None
    verdict: Verdict | None = None
    sampled: Mapping[str, int] = field(default_factory=dict)


def compare_runs(
    paths: Sequence[Path | str],
    *,
    metrics: Sequence[str] = (),
    tolerances: Mapping[str, float] | None = None,
    known: Known | None = None,
    contest: Contest | None = None,
) -> Comparison:
    """Compare logs.

    Args:
        paths: the logs; a single one is only described.
        metrics: names of metrics, see `series.match`; if empty, all that the logs have in common.
        tolerances: largest allowed difference between any two runs at a common step, by metric.
        known: headlines by command, for logs of programs that did not write theirs.
        contest: what tables rank, if they have its columns.

    Returns:
        The comparison.

    Raises:
        InputError: there are no logs, a log cannot be read or lacks a requested metric, the runs
            have no step in common, or a tolerance is not a number >= 0.
    """
    tolerances = tolerances or {}
    _check(paths, tolerances)
    read = read_thinned(paths, contest)
    runs = read.runs
    groups = _groups(runs)
    found: list[dict[str, Curve]] = [curves(run) for run in runs]
    chosen = _chosen(runs, found, [*metrics, *tolerances])
    if not metrics:
        chosen = {**chosen, **dict.fromkeys(_in_common(found), False)}
    compared = {}
    for name, requested in chosen.items():
        metric = _metric(name, [each[name] for each in found], runs, groups)
        metric = replace(metric, exact=read.exact.get(name))
        if len(metric.steps):
            compared[name] = metric
        elif requested:
            raise InputError(f"{name}: the logs have no step in common")
    ranking = ranked(runs, contest)
    headline = common_headline(runs, known or {})
    places = {group.label: group.members for group in groups}
    if len(runs) > 1 and not compared and not all(ranked([run], contest) for run in runs):
        raise InputError("the logs have no metric and step in common; compare logs of one command")
    return Comparison(
        runs=runs,
        groups=groups,
        config_differences=_config_differences([run.config for run in runs]),
        metrics=compared,
        ranking=ranking,
        contest=contest,
        exceeded=_exceeded(tolerances, next(iter(runs)), found[0], compared),
        verdict=judged(runs, places, headline, read.rows) if headline else None,
        sampled=read.rows,
    )


def parse_tolerances(texts: Sequence[str]) -> dict[str, float]:
    """Parse "NAME=VALUE" texts.

    Raises:
        InputError: a text is not of this form.
    """
    tolerances = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            tolerances[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--tolerance {text}: write NAME=VALUE, e.g. test_error=0.1")
    return tolerances


def _check(paths: Sequence[Path | str], tolerances: Mapping[str, float]) -> None:
    if not paths:
        raise InputError("no logs to compare; name at least one")
    if tolerances and len(paths) < 2:
        raise InputError("a tolerance needs at least two logs")
    for name, value in tolerances.items():
        if not value >= 0:
            raise InputError(f"tolerance {name}={value} must be a number >= 0")


def _chosen(
    runs: Sequence[Run], found: Sequence[Mapping[str, Curve]], names: Sequence[str]
) -> dict[str, bool]:
    chosen: dict[str, bool] = {}
    for name in names:
        full = match(name, found[0], runs[0].path)
        for run, each in zip(runs[1:], found[1:], strict=True):
            for one in full:
                match(one, each, run.path)
        chosen |= dict.fromkeys(full, True)
    return chosen


def _in_common(found: Sequence[Mapping[str, Curve]]) -> list[str]:
    return [name for name in plain_names(found[0]) if all(name in each for each in found)]


def _metric(
    name: str, given: Sequence[Curve], runs: Sequence[Run], groups: Sequence[Group]
) -> Metric:
    steps = common_steps(given)
    values = np.stack([at(curve, steps) for curve in given])
    seeds = [run.meta["seed"] for run in runs]
    spreads = {group.label: _spread(values, seeds, group) for group in groups}
    return Metric(name, tuple(given), steps, values, spreads)


def over_seeds(given: Sequence[Curve], seeds: Sequence[int]) -> tuple[NDArray[np.int64], Spread]:
    """Average one metric over the runs of one config.

    Args:
        given: one curve per run, at least one.
        seeds: the seed of each; runs of equal seed are averaged first.

    Returns:
        The steps that all runs have, and the mean with its confidence interval there.
    """
    steps = common_steps(given)
    values = np.stack([at(curve, steps) for curve in given])
    group = Group("", tuple(range(len(given))), tuple(dict.fromkeys(seeds)))
    return steps, _spread(values, seeds, group)


def _spread(values: NDArray[np.float64], seeds: Sequence[int], group: Group) -> Spread:
    # With infinite values the mean and the spread are NaN; that needs no warning.
    with np.errstate(invalid="ignore"):
        return _interval(values, seeds, group)


def _interval(values: NDArray[np.float64], seeds: Sequence[int], group: Group) -> Spread:
    members = {s: [i for i in group.members if seeds[i] == s] for s in group.seeds}
    by_seed = np.stack([values[np.array(each)].mean(axis=0) for each in members.values()])
    return Spread(by_seed.mean(axis=0), half_widths(by_seed), len(by_seed))


def _groups(runs: Sequence[Run]) -> tuple[Group, ...]:
    members: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        config = {k: v for k, v in run.config.items() if k != "seed"}
        members.setdefault(repr(sorted(flatten(config).items())), []).append(i)
    return tuple(
        Group(_letter(i), tuple(each), tuple(dict.fromkeys(runs[j].meta["seed"] for j in each)))
        for i, each in enumerate(members.values())
    )


def _letter(i: int) -> str:
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each if key != "seed")
    values = {key: tuple(each.get(key) for each in flat) for key in keys}
    return {key: each for key, each in values.items() if any(v != each[0] for v in each)}


def _exceeded(
    tolerances: Mapping[str, float],
    first: Run,
    found: Mapping[str, Curve],
    compared: Mapping[str, Metric],
) -> tuple[Excess, ...]:
    exceeded = []
    for name, tolerance in tolerances.items():
        for full in match(name, found, first.path):
            difference, step = compared[full].largest_difference
            if difference > tolerance:
                exceeded.append(Excess(full, difference, step, tolerance))
    return tuple(exceeded)
