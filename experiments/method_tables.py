"""Results of the benchmark of methods: tables of the final measures, and curves over time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bridge.report.panels import Line, Panel, draw_panels
from experiments.jobs import markdown
from experiments.method_arms import PLAIN

Task = dict[str, Any]
"""A run: its method, settings, language and seed; once it has ended, also its curve."""
KINDS = ("cyclic", "transitive")
"""Kinds of preferences."""
FLOOR = 1e-5
"""The figure draws lower values at this height."""


def target(name: str) -> int:
    """Index of the measure by which a method is tuned and judged: 1 regularised, 3 plain."""
    return 3 if name in PLAIN else 1


def table(
    done: Sequence[Task], kind: str, how: str, sizes: Sequence[int], methods: Sequence[str]
) -> str:
    """Final measures: means over seeds (smallest to largest) of f and KL, and of plain."""
    plain = all(name in PLAIN for name in methods)
    names = ("plain",) if plain else ("f", "KL")
    header = ["method", *(f"{size}: {name}" for size in sizes for name in names)]
    rows = []
    for method in methods:
        cells = []
        for size in sizes:
            wanted = (method, how, kind, size)
            ends = [each["course"][-1] for each in done if _key_of(each) == wanted]
            if plain:
                cells.append(_spread([end[3] for end in ends]))
            else:
                cells += [_spread([end[1] for end in ends]), _mean([end[2] for end in ends])]
        rows.append([method, *cells])
    return markdown(header, rows)


def _key_of(task: Task) -> tuple[str, str, str, int]:
    return task["method"], task["how"], task["kind"], task["size"]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2g}" if values else ""


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _mean(values)
    return f"{_mean(values)} ({min(values):.2g} to {max(values):.2g})"


def tables(done: Sequence[Task], sizes: Sequence[int], methods: Sequence[str]) -> Iterator[str]:
    """One table per kind of language, game and way of choosing the settings."""
    for kind in KINDS:
        for how in ("tuned", "published"):
            if how == "tuned" and not _has_tuned(done):
                continue
            for plain in (False, True):
                some = [name for name in methods if (name in PLAIN) == plain]
                game = "the plain game" if plain else "the regularised game"
                if some:
                    yield f"{kind}, {game}, {how}\n\n" + table(done, kind, how, sizes, some)


def draw(done: Sequence[Task], sizes: Sequence[int], methods: Sequence[str], figure: Path) -> None:
    """Plot medians over the answers sampled: regularised methods by f, the others by plain."""
    size, panels = sizes[min(2, len(sizes) - 1)], []
    for kind in KINDS:
        for plain in (False, True):
            lines = []
            for style, name in enumerate(n for n in methods if (n in PLAIN) == plain):
                courses = [
                    each["course"]
                    for each in done
                    if (each["method"], each["kind"], each["size"]) == (name, kind, size)
                    and each["how"] == ("tuned" if _has_tuned(done) else "published")
                ]
                if courses:
                    middle = torch.tensor(courses, dtype=torch.float64).median(0).values
                    ends = middle[:, target(name)].clamp(min=FLOOR)
                    lines.append(Line(name, middle[:, 0], ends, style=style))
            what = "plain exploitability" if plain else "exploitability, tau = 0.1"
            if lines:
                title = f"{kind.capitalize()} game of {size} answers"
                panels.append(
                    Panel(title, "answers sampled", lines, logarithmic=True, y_label=what)
                )
    seeds = len({each["seed"] for each in done})
    caption = "one seed" if seeds == 1 else f"lines: median of {seeds} seeds"
    draw_panels(figure, panels, caption=f"{caption}; values below {FLOOR:.5f} drawn there")


def _has_tuned(done: Sequence[Task]) -> bool:
    return any(each["how"] == "tuned" for each in done)
