"""A ranking as one page: what the battles decide, in words, and the drawings behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.card import Card
from bridge.report.drawings import Edge, Interval, forest, graph, heat_map
from bridge.report.html import document, figure, rows_table
from bridge.report.panels import Line, Panel


@dataclass(frozen=True)
class RankingView:
    """What a page shows for one context.

    Attributes:
        name: of the context.
        verdict: in a few words.
        words: sentences that say what is decided.
        scores: one row per item, with its ranks.
        lottery: one row per item, with the share of resamples in which it has weight.
        names: of the items in the order of `shares` and `counts`.
        shares, counts: win rates and battles, [K, K].
        taus: regularisation strengths, decreasing.
        paths: weights of items as functions of tau, by name.
        members: items of the drawn cycles, and `edges` between them.
        cycles: rows of the table of cycles.
    """

    name: str
    verdict: str
    words: Sequence[str]
    scores: Sequence[Interval]
    lottery: Sequence[Interval]
    names: Sequence[str]
    shares: NDArray[np.float64]
    counts: NDArray[np.float64]
    taus: Sequence[float]
    paths: dict[str, Sequence[float]] = field(default_factory=dict)
    members: Sequence[str] = ()
    edges: Sequence[Edge] = ()
    cycles: Sequence[Sequence[Any]] = ()


def ranking_page(
    title: str, card: Card, views: Sequence[RankingView], command: Sequence[str] = ()
) -> str:
    """Render a ranking as a self-contained HTML page.

    Args:
        title: of the page.
        card: describes the data.
        views: one per context.
        command: the command line that asked for the page.
    """
    links = "".join(f'<a href="#c{n}">{escape(v.name)}</a>' for n, v in enumerate(views))
    verdicts = "".join(f"<li>{escape(view.verdict)}</li>" for view in views)
    header = f"<ul>{verdicts}</ul><nav>{links}<a href='#data'>Data</a></nav>"
    main = [part for n, view in enumerate(views) for part in _context(n, view)]
    main += ['<h2 id="data">Data</h2>', rows_table(("fact", "value"), card.rows())]
    return document(title, header, main, command)


def _context(n: int, view: RankingView) -> list[str]:
    parts = [f'<h2 id="c{n}">{escape(view.verdict)}</h2>']
    parts.append(f"<p>{escape(' '.join(view.words))}</p>")
    parts.append('<div class="figures">')
    parts.append(
        _still(
            "Bradley-Terry scores",
            "log-odds, 95 % intervals; ranks at the right hold for all items at once",
            forest(view.scores, "log-odds, mean zero"),
        )
    )
    parts.append(
        _still(
            "Maximal lottery",
            "weights with 95 % intervals; at the right the share of resamples with any weight",
            forest(view.lottery, "weight"),
        )
    )
    if view.paths:
        parts.append(figure(_path(n, view)))
    if view.edges:
        parts.append(
            _still(
                "Cycles",
                "arrows go from who beats to who is beaten; faint ones are unsure",
                graph(view.members, view.edges, f"arrow-{n}"),
            )
        )
    parts.append("</div>")
    parts.append(
        _still(
            "Win rates",
            "row against column; blue wins, orange loses; below each rate the number of battles",
            heat_map(view.names, view.shares, view.counts),
        )
    )
    if view.cycles:
        parts += ["<h3>Cycles</h3>", rows_table(("cycle", "probability", "on top"), view.cycles)]
    return parts


def _path(n: int, view: RankingView) -> Panel:
    taus = np.asarray(view.taus)[::-1]
    return Panel(
        "Regularised equilibrium along tau",
        "tau",
        [Line(name, taus, np.asarray(weights)[::-1]) for name, weights in view.paths.items()],
        x_logarithmic=True,
        name=f"path-{n}",
        note="reference: uniform; at the left the maximal lottery",
    )


def _still(title: str, note: str, drawing: str) -> str:
    return (
        f"<figure><figcaption><b>{escape(title)}</b>"
        f'<span class="note">{escape(note)}</span></figcaption>'
        f'<div class="wide">{drawing}</div></figure>'
    )
