"""Choose the figures of a comparison of logs: its metrics as panels, in sections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.config import flatten
from bridge.headline import Headline
from bridge.report.layout import CURVES, PLAIN, Layout, Topic
from bridge.report.panels import Line, Panel
from bridge.runlog.choosing import named
from bridge.runlog.compare import Comparison, Group, over_seeds
from bridge.runlog.series import Curve, Series, at, common_steps, series

_MOST_APART = 8
_MOST_KEYS = 3
_DECADES = 1.7
MOST_POINTS = 300
"""Points per line; with more rows, each point is the mean or an extreme of several rows."""


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    panels: tuple[Panel, ...]


def sections(found: Comparison, layout: Layout | None = None) -> tuple[Section, ...]:
    """Build the figures of a comparison; each config keeps one colour and dash style throughout.

    A config with several seeds is drawn as the mean over them with a 95 % confidence band
    (Student's t), and its runs as thin lines behind it. Metrics that never change have no figure,
    see `constants`.

    Args:
        found: the comparison.
        layout: the topics of the columns; None draws a figure for each column.
    """
    layout = layout or PLAIN
    never = constants(found)
    panels: dict[str, list[Panel]] = {topic.title: [] for topic in (*layout.topics, CURVES)}
    headline = found.verdict.headline if found.verdict else None
    first: list[Panel] = []
    for (table, column), runs in _by_place(found, layout).items():
        if headline and not headline.where and headline.metric == f"{table}/{column}":
            first = _of_headline(found, headline, runs, layout)
            continue
        choices = {key for of_run in runs for each in of_run for key in each.keys}
        topic = layout.topic(column, choices)
        if topic is None or f"{table}/{column}" in never:
            continue
        for note, part in _by_sample(runs, topic, layout):
            panels[topic.title].append(_panel(found, table, column, part, topic, note))
    chosen = [Section(title, tuple(each)) for title, each in panels.items() if each]
    if headline and first:
        chosen.insert(0, Section(sentence(headline.name), tuple(first)))
    return tuple(chosen)


def sentence(text: str) -> str:
    """Capitalise the first letter of a text."""
    return text[:1].upper() + text[1:]


def _of_headline(found: Comparison, headline: Headline, runs: _Runs, layout: Layout) -> list[Panel]:
    """Draw the headline over its declared x axis."""
    over = []
    for run, of_run in zip(found.runs, runs, strict=True):
        columns = run.tables.get(headline.table, {})
        place = dict(zip(*(columns.get(c, ()) for c in ("step", headline.over)), strict=True))
        over.append([replace(each, curve=_over(each.curve, place)) for each in of_run])
    panels = []
    topic = layout.topic(headline.column) or CURVES
    for note, part in _by_sample(over, topic, layout):
        panel = _panel(found, headline.table, headline.column, part, topic, note)
        panels.append(replace(panel, title=headline.title, x_label=headline.over))
    return panels


def _over(curve: Curve, place: Mapping[Any, Any]) -> Curve:
    """Replace a curve's steps by other numbers, which must exist for each of them."""
    return Curve(np.array([place[step] for step in curve.steps.tolist()]), curve.values)


def constants(found: Comparison) -> dict[str, float]:
    """Give the metrics that have one value in all rows of all runs, if there are several rows."""
    values: dict[str, set[float]] = {}
    rows: dict[str, int] = {}
    for run in found.runs:
        for table, columns in run.tables.items():
            for column, each in columns.items():
                if column != "step" and each.dtype.kind in "ifb":
                    name = f"{table}/{column}"
                    # two are enough to tell
                    values.setdefault(name, set()).update(np.unique(each)[:2].tolist())
                    rows[name] = rows.get(name, 0) + len(each)
    return {
        name: float(next(iter(of_name)))
        for name, of_name in values.items()
        if len(of_name) == 1 and rows[name] > len(found.runs)
    }


def labels(found: Comparison) -> dict[str, str]:
    """Describe each config: its letter, the first settings in which it differs, its seeds."""
    return {group.label: _label(found, group) for group in found.groups}


_Runs = list[list[Series]]


def _by_place(found: Comparison, layout: Layout) -> dict[tuple[str, str], _Runs]:
    """Collect each run's series by table and column, the shortest tables first."""
    places: dict[tuple[str, str], _Runs] = {}
    sizes: dict[str, int] = {}
    for i, run in enumerate(found.runs):
        for table, columns in run.tables.items():
            sizes[table] = max(sizes.get(table, 0), len(columns["step"]))
        for each in series(run, by=layout.keys):
            if not len(each.curve.steps):
                continue
            of_runs = places.setdefault((each.table, each.column), [[] for _ in found.runs])
            of_runs[i].append(each)
    return dict(sorted(places.items(), key=lambda place: sizes[place[0][0]]))


def _by_sample(runs: _Runs, topic: Topic, layout: Layout) -> Iterator[tuple[str, _Runs]]:
    """Split a panel's series by a key that its topic has apart; average over the other samples."""
    for key in layout.averaged:
        values = sorted({s.keys[key] for run in runs for s in run if key in s.keys})
        if len(values) < 2:
            continue
        if topic.apart == key and len(values) <= _MOST_APART:
            for value in values:
                part = [[s for s in run if s.keys.get(key) == value] for run in runs]
                yield f"{key} {value}", part
        else:
            yield f"mean over {len(values)} {key}s", [_averaged(run, key) for run in runs]
        return
    yield "", runs


def _panel(
    found: Comparison, table: str, column: str, runs: _Runs, topic: Topic, note: str
) -> Panel:
    runs = [_rows_of(topic, of_run) for of_run in runs]
    steps = {step for of_run in runs for each in of_run for step in each.curve.steps.tolist()}
    over = topic.over if len(steps) == 1 else ""
    if over:
        runs = [_over_key(of_run, over) for of_run in runs]
    lines = list(_lines(found, runs, table in found.sampled))
    longest = max((len(each.curve.steps) for of_run in runs for each in of_run), default=0)
    means = ""
    if longest > MOST_POINTS:
        means = (
            f"each point the mean of up to {math.ceil(longest / MOST_POINTS)} rows, "
            "the band of a run from the smallest to the largest"
        )
    if table in found.sampled:
        means = f"of {found.sampled[table]} rows those with the extremes of each stretch"
    part = f"-{note}" if topic.apart and note.startswith(topic.apart) else ""
    title = column.removesuffix("_degrees").replace("_", " ")
    return Panel(
        title=f"{title} (degrees)" if column.endswith("_degrees") else title,
        x_label=over or "step",
        lines=lines,
        logarithmic=_spans_decades(lines),
        x_logarithmic=bool(over),
        name=f"{table}/{column}{part}",
        note="; ".join(filter(None, (table, note, means))),
    )


def _rows_of(topic: Topic, of_run: list[Series]) -> list[Series]:
    """Keep the series that a topic draws."""
    if topic.only:
        name, values = topic.only
        occurring = {each.keys.get(name) for each in of_run}
        chosen = next((value for value in values if value in occurring), values[-1])
        of_run = [each for each in of_run if each.keys.get(name, chosen) == chosen]
    if of_run and topic.same in of_run[0].keys:
        return [replace(of_run[0], keys={})]
    return of_run


def _averaged(of_run: list[Series], key: str) -> list[Series]:
    """Average over the values of a key, at the steps that all series have."""
    averaged = []
    for keys, group in _without(of_run, key):
        steps, spread = over_seeds([each.curve for each in group], range(len(group)))
        averaged.append(replace(group[0], keys=keys, curve=Curve(steps, spread.mean)))
    return averaged


def _over_key(of_run: list[Series], key: str) -> list[Series]:
    """Turn the values of one step at several values of a key into a curve over the key.

    Rows to which the key does not apply have the same value everywhere.
    """
    given = {each.keys[key] for each in of_run if key in each.keys}
    places: Any = np.array(sorted(x for x in given if np.isfinite(x)) or [1.0])
    turned = []
    for keys, group in _without(of_run, key):
        at = {each.keys[key]: each.curve.values[0] for each in group if key in each.keys}
        if any(np.isnan(x) for x in at) or not at:
            curve = Curve(places, np.full(len(places), group[0].curve.values[0]))
        else:
            curve = Curve(np.array(sorted(at)), np.array([at[x] for x in sorted(at)]))  # type: ignore[arg-type]
        turned.append(replace(group[0], keys=keys, curve=curve))
    return turned


def _without(of_run: list[Series], key: str) -> Iterator[tuple[Mapping[str, Any], list[Series]]]:
    groups: dict[str, tuple[dict[str, Any], list[Series]]] = {}
    for each in of_run:
        keys = {k: v for k, v in each.keys.items() if k != key}
        groups.setdefault(repr(keys), (keys, []))[1].append(each)
    yield from groups.values()


def _lines(found: Comparison, runs: _Runs, sampled: bool) -> Iterator[Line]:
    """Give each config, and each combination of keys in it, a line with its band."""
    shown = _varying([each.keys for of_run in runs for each in of_run])
    names = labels(found)
    of_runs = [{repr(shown(s.keys)): s for s in of_run} for of_run in runs]
    combinations = {place: shown(s.keys) for of_run in of_runs for place, s in of_run.items()}
    # If each config has a single combination, the config's label is enough.
    by_config = all(
        len({place for i in group.members for place in of_runs[i]}) <= 1 for group in found.groups
    )
    for g, group in enumerate(found.groups):
        for c, (place, keys) in enumerate(combinations.items()):
            members = [i for i in group.members if place in of_runs[i]]
            if not members:
                continue
            words = [] if by_config else [f"{key} {value}" for key, value in keys.items()]
            if len(found.groups) > 1 or not words:
                words.insert(0, names[group.label])
            curves = [of_runs[i][place].curve for i in members]
            seeds = [found.runs[i].meta["seed"] for i in members]
            style = g if by_config else c * len(found.groups) + g
            yield from _line(", ".join(words), curves, seeds, style, sampled)


def _line(
    label: str, curves: Sequence[Curve], seeds: Sequence[int], style: int, sampled: bool
) -> Iterator[Line]:
    steps = common_steps(curves)
    bands: list[tuple[Any, Any]] = [(None, None)] * len(curves)
    if sampled:
        yield from _sampled(label, curves, seeds, style)
        return
    if len(steps) > MOST_POINTS:
        whole = [at(curve, steps) for curve in curves]
        curves = [_binned(steps, values) for values in whole]
        bands = [_range(values) for values in whole]
    steps, spread = over_seeds(curves, seeds)
    alone = spread.n < 2
    for curve, (low, high) in zip(curves, bands, strict=True):
        yield Line(label, curve.steps, curve.values, low, high, style, faint=not alone)
    if not alone:
        low, high = spread.mean - spread.half_width, spread.mean + spread.half_width
        yield Line(f"{label}, mean of {spread.n} seeds", steps, spread.mean, low, high, style)


def _sampled(
    label: str, curves: Sequence[Curve], seeds: Sequence[int], style: int
) -> Iterator[Line]:
    """Give the lines of sampled rows; these are extremes, so no mean over them is valid."""
    steps, spread = over_seeds(curves, seeds)
    alone = spread.n < 2
    for curve in curves:
        chosen = _extremes(curve.values)
        yield Line(label, curve.steps[chosen], curve.values[chosen], None, None, style, not alone)
    if not alone:
        chosen = _extremes(spread.mean)
        x, mean, half = steps[chosen], spread.mean[chosen], spread.half_width[chosen]
        name = f"{label}, mean of {spread.n} seeds"
        yield Line(name, x, mean, mean - half, mean + half, style)


def _starts(n: int, stretches: int) -> NDArray[np.int64]:
    return np.arange(0, n, math.ceil(n / stretches))


def _extremes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the smallest, the largest and a missing value in each of half as many stretches."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    chosen = set()
    starts = _starts(len(values), MOST_POINTS // 2)
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        part = values[start:end]
        good = np.isfinite(part)
        chosen |= {
            start + int(np.argmin(np.where(good, part, np.inf))),
            start + int(np.argmax(np.where(good, part, -np.inf))),
            start + int(np.argmin(good)),
        }
    return np.array(sorted(chosen), np.int64)


def _range(values: NDArray[np.float64]) -> tuple[Any, Any]:
    """Give the smallest and the largest value of each stretch of `_binned`."""
    starts = _starts(len(values), MOST_POINTS)
    return np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)


def _binned(steps: NDArray[Any], values: NDArray[np.float64]) -> Curve:
    """Average over equally long stretches so that MOST_POINTS points remain."""
    starts = _starts(len(steps), MOST_POINTS)
    counts = np.diff(np.append(starts, len(steps)))
    x, y = (np.add.reduceat(each.astype(float), starts) / counts for each in (steps, values))
    return Curve(x, y)  # type: ignore[arg-type]


def _varying(keys: Sequence[Mapping[str, Any]]) -> Any:
    """Make the function that removes from keys what all have in common, and a run's betas."""
    values: dict[str, set[str]] = {}
    for each in keys:
        for key, value in each.items():
            values.setdefault(key, set()).add(repr(value))
    varying = [key for key, of_key in values.items() if len(of_key) > 1]
    return lambda each: {key: each[key] for key in varying if key in each}


def _spans_decades(lines: Sequence[Line]) -> bool:
    """Tell whether a logarithmic axis shows more: no values below zero, and a wide range."""
    values = np.concatenate([np.asarray(line.y, float) for line in lines] or [np.empty(0)])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not len(positive) or (values < 0).any() or len(positive) < 0.9 * len(values):
        return False
    return bool(np.log10(positive.max()) - np.log10(positive.min()) > _DECADES)


def _label(found: Comparison, group: Group) -> str:
    settings = flatten(found.runs[group.members[0]].config)
    differing = [key for key in found.config_differences if key in settings]
    if not differing:
        return group.label
    more = ", …" if len(differing) > _MOST_KEYS else ""
    return f"{group.label}: {named({k: settings[k] for k in differing[:_MOST_KEYS]})}{more}"
