"""The headline of several configs: over seeds, and as paired differences from the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.headline import Headline
from bridge.runlog.digest import command_of
from bridge.runlog.reader import Run
from bridge.runlog.results import Known, headline_of, last_value, result_of
from bridge.runlog.stream import open_log

CONFIDENCE = 0.95
# Relative to a value: smaller errors are due to rounding.
_LEAST = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: over the seeds.
        half_width: of its 95 % confidence interval, t_{n-1} sd / sqrt(n); NaN for one seed.
        n: number of seeds.
    """

    mean: float
    half_width: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """The headline of one config.

    Args:
        label: of the config.
        by_seed: the value at the last step of each seed; runs of equal seed are averaged.
        estimate: their mean.
        difference: from the first config, over the seeds that both have; None for the first config
            itself, and if they share no seed.
        steps: the smallest and the largest last step of its runs.
    """

    label: str
    by_seed: Mapping[int, float]
    estimate: Estimate
    difference: Estimate | None
    steps: tuple[int, int]

    def verdict(self, headline: Headline) -> str:
        """Say whether it is better than the first config; "unclear" if the interval contains zero.

        With fewer than two pairs of runs the result is empty.
        """
        found = self.difference
        if found is None or not abs(found.mean) > found.half_width:
            return "" if found is None or found.n < 2 else "unclear"
        return "better" if (found.mean < 0) == (headline.better == "lower") else "worse"


@dataclass(frozen=True)
class Verdict:
    """The headline of all configs, without those that have no row of it yet."""

    headline: Headline
    outcomes: tuple[Outcome, ...]


def half_widths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the 95 % confidence interval of the mean over the first axis; NaN for one value."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], math.nan)
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return quantile * values.std(axis=0, ddof=1) / math.sqrt(n)


def common_headline(runs: Sequence[Run], known: Known) -> Headline | None:
    """Give the headline that all runs share; None if they do not share one."""
    found = [_headline(run, known) for run in runs]
    first = found[0]
    same = first is not None and all(h is not None and h.metric == first.metric for h in found)
    return first if same else None


def judged(
    runs: Sequence[Run],
    groups: Mapping[str, Sequence[int]],
    headline: Headline,
    thinned: Mapping[str, int],
) -> Verdict:
    """Compare configs by their headline.

    Args:
        runs: the runs.
        groups: indices of the runs of each config, by its label.
        headline: the headline that all of them have.
        thinned: the tables of which the runs hold only some rows.
    """
    outcomes: list[Outcome] = []
    for label, members in groups.items():
        values: dict[int, list[float]] = {}
        steps = []
        for i in members:
            value = _result(runs[i], headline, headline.table in thinned)
            if value is not None:
                values.setdefault(runs[i].meta["seed"], []).append(value)
                steps.append(int(runs[i].tables[headline.table]["step"][-1]))
        if values:
            by_seed = {seed: float(np.mean(each)) for seed, each in values.items()}
            against = outcomes[0].by_seed if outcomes else {}
            paired = [by_seed[seed] - against[seed] for seed in by_seed if seed in against]
            difference = _estimate(paired) if paired else None
            mean = _estimate(list(by_seed.values()))
            outcomes.append(Outcome(label, by_seed, mean, difference, (min(steps), max(steps))))
    return Verdict(headline, tuple(outcomes))


def with_error(mean: float, half_width: float) -> str:
    """Write a value with as many digits as its error allows: two digits of the error.

    Examples:
        >>> with_error(2.31415, 0.0423), with_error(2.0213e-9, 1.2e-10)
        ('2.314 ± 0.042', '(2.02 ± 0.12)e-09')
    """
    if not (math.isfinite(mean) and math.isfinite(half_width) and half_width > _LEAST * abs(mean)):
        return f"{mean:.4g}"
    largest = max(abs(mean), half_width)
    power = math.floor(math.log10(largest))
    if not -3 <= power <= 5:
        return f"({_fixed(mean / 10.0**power, half_width / 10.0**power)})e{power:+03d}"
    return _fixed(mean, half_width)


def _fixed(mean: float, half_width: float) -> str:
    digits = max(1 - math.floor(math.log10(half_width)), 0)
    return f"{mean:.{digits}f} ± {half_width:.{digits}f}"


def _estimate(values: Sequence[float]) -> Estimate:
    array = np.asarray(values, float)
    # With infinite values the mean and the spread are NaN; that needs no warning.
    with np.errstate(invalid="ignore"):
        return Estimate(float(array.mean()), float(half_widths(array)), len(values))


def _headline(run: Run, known: Known) -> Headline | None:
    columns = {
        table: [name for name, values in each.items() if values.dtype.kind in "ifb"]
        for table, each in run.tables.items()
    }
    return headline_of(run.meta, columns, known.get(command_of(run.meta["command_line"]), ()))


def _result(run: Run, headline: Headline, thinned: bool) -> float | None:
    if not thinned:
        return last_value(run.tables[headline.table], headline)
    with open_log(run.path, whole=False) as log:
        return result_of(log, headline)
