"""A comparison as one self-contained page: no network, no other file.

The drawings are inline SVG made here, and the script only enhances them. plotly would add 4.8 MB to
each report and print nothing without its script; matplotlib's SVG has fixed sizes and no values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from bridge.report import svg
from bridge.report.figures import Section, constants, labels, sections, sentence
from bridge.report.layout import Layout
from bridge.report.panels import Panel, styles
from bridge.runlog.compare import Comparison
from bridge.runlog.digest import command_of
from bridge.runlog.origins import provenance_tables
from bridge.runlog.output import new_file
from bridge.runlog.summary import comparison_tables, final_tables, verdict_table

# Longer texts may be broken anywhere.
_SHORT = 32
_Rows = Iterable[Sequence[Any]]


def page(
    found: Comparison,
    command: Sequence[str] = (),
    title: str = "",
    layout: Layout | None = None,
) -> str:
    """Render a comparison as an HTML page.

    Args:
        found: the comparison.
        command: the command line that asked for the report.
        title: of the page; if empty, made from the logs' commands.
        layout: see `sections`.

    Returns:
        The page; its content security policy allows no requests and only its own script.
    """
    chosen = sections(found, layout)
    main = [*_results(found), *_sections(chosen), *_last_values(found), *_provenance(found)]
    return document(title or _title(found), f"{_lead(found)}{_contents(chosen)}", main, command)


def live_parts(found: Comparison, layout: Layout | None = None) -> list[str]:
    """Render the changing parts of a page on running runs: their progress, and their figures."""
    return [
        f"<h2>{escape(_title(found))}</h2>{_legend(found)}",
        *_verdict(found),
        *_sections(sections(found, layout)),
    ]


def document(
    title: str,
    header: str,
    main: Sequence[str],
    command: Sequence[str] = (),
    refresh: float | None = None,
) -> str:
    """Assemble a page from its parts.

    Args:
        title: of the page, as plain text.
        header: HTML below the title.
        main: HTML, one string per part.
        command: the command line that asked for the page.
        refresh: seconds after which the page reloads itself; by default never.
    """
    script = _resource("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    policy += "; connect-src 'self'" if refresh else ""
    live = f' data-refresh="{refresh:.3g}"' if refresh else ""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>",
        f"<style>{_resource('style.css')}</style></head><body{live}>",
        f"<header><h1>{escape(title)}</h1>{header}</header>",
        "<main>",
        *main,
        "</main>",
        _footer(command),
        f"<script>{script}</script></body></html>",
    ]
    return "\n".join(parts)


def _resource(name: str) -> str:
    return (resources.files("bridge.report") / "page" / name).read_text("utf-8")


def _title(found: Comparison) -> str:
    commands = dict.fromkeys(command_of(run.meta["command_line"]) for run in found.runs)
    runs = "1 run" if len(found.runs) == 1 else f"{len(found.runs)} runs"
    return f"{runs} of {', '.join(filter(None, commands)) or 'unknown commands'}"


def _lead(found: Comparison) -> str:
    unfinished = [run for run in found.runs if run.state != "finished"]
    damaged = [run for run in found.runs if run.dropped]
    warnings = [f"{run.path.name} is {run.state}" for run in unfinished]
    warnings += [f"{run.path.name} has damaged rows, which are left out" for run in damaged]
    warning = f"<p>Take care: {escape('; '.join(warnings))}.</p>" if warnings else ""
    return f"{_legend(found)}{warning}"


def _legend(found: Comparison) -> str:
    items = "".join(
        f"<li>{svg.sample(n)} {escape(label)}{_seeds(found, n)}</li>"
        for n, label in enumerate(labels(found).values())
    )
    return f'<ul class="legend">{items}</ul>'


def _seeds(found: Comparison, n: int) -> str:
    group = found.groups[n]
    seeds = ", ".join(map(str, group.seeds))
    return f' <span class="dim">(seed{"s" if len(group.seeds) > 1 else ""} {escape(seeds)})</span>'


def _contents(chosen: Sequence[Section]) -> str:
    links = [("results", "Results"), *((f"s{n}", s.title) for n, s in enumerate(chosen))]
    links += [("last", "Last values"), ("provenance", "Provenance")]
    return "<nav>" + "".join(f'<a href="#{a}">{escape(t)}</a>' for a, t in links) + "</nav>"


def _results(found: Comparison) -> list[str]:
    parts = ['<h2 id="results">Results</h2>']
    parts += _verdict(found)
    for title, columns, rows in comparison_tables(found):
        if title.strip().startswith(("configs differ", "gradient estimates")):
            parts += [f"<h3>{escape(sentence(title.strip()))}</h3>", rows_table(columns, rows)]
    return parts


def _verdict(found: Comparison) -> list[str]:
    title, columns, rows = verdict_table(found)
    return [f"<h3>{escape(sentence(title))}</h3>", rows_table(columns, rows)] if rows else []


def _last_values(found: Comparison) -> list[str]:
    how = "at the last step that its runs share"
    if any(len(group.seeds) > 1 for group in found.groups):
        how = f"mean over seeds ± half of the 95 % confidence interval (Student's t), {how}"
    parts = ['<h2 id="last">Last values</h2>', f'<p class="dim">Of each config: {how}.</p>']
    for title, columns, rows in final_tables(found):
        parts += [f"<h3>{escape(sentence(title))}</h3>", rows_table(columns, rows)]
    never = constants(found)
    if never:
        values = ", ".join(f"{name} = {value:.4g}" for name, value in never.items())
        parts.append(f'<p class="dim">The same in every row of every run: {escape(values)}.</p>')
    return parts


def _sections(chosen: Sequence[Section]) -> Iterator[str]:
    for n, section in enumerate(chosen):
        figures = "".join(figure(panel) for panel in section.panels)
        yield f'<h2 id="s{n}">{escape(section.title)}</h2><div class="figures">{figures}</div>'


def figure(panel: Panel) -> str:
    """Render curves as a figure with its legend and the values for the script."""
    data = {"axis": svg.placing(panel), "lines": svg.values(panel.lines)}
    # With < escaped, no name in a log can end the element.
    block = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    note = f'<span class="note">{escape(panel.note)}</span>' if panel.note else ""
    return (
        f'<figure data-name="{escape(panel.name)}" data-x="{escape(panel.x_label)}"><figcaption>'
        f"<b>{escape(panel.title)}</b>{note}<output></output></figcaption>{svg.drawing(panel)}"
        f'<ul class="legend">{"".join(_entries(panel))}</ul>'
        f'<script type="application/json">{block}</script></figure>'
    )


def _entries(panel: Panel) -> Iterable[str]:
    """Render one legend entry per labelled line; it also toggles the runs behind a mean."""
    numbered = list(enumerate(zip(panel.lines, styles(panel.lines), strict=True)))
    for n, (line, style) in numbered:
        if line.faint:
            continue
        behind = [m for m, (other, s) in numbered if s == style and (m == n or other.faint)]
        yield (
            f'<li><button type="button" aria-pressed="true" data-line="{n}" '
            f'data-lines="{" ".join(map(str, behind))}">{svg.sample(style)} '
            f"<span>{escape(line.label)}</span><output></output></button></li>"
        )


def _provenance(found: Comparison) -> list[str]:
    parts = ['<h2 id="provenance">Provenance</h2>']
    for title, columns, rows in provenance_tables(found):
        parts += [f"<h3>{escape(title)}</h3>", rows_table(columns, rows)]
    return parts


def rows_table(columns: Sequence[str], rows: _Rows) -> str:
    """Render a table; numeric columns are right-aligned."""
    listed = [list(row) for row in rows]
    numeric = [
        all(_is_number(row[i]) for row in listed) and bool(listed) for i in range(len(columns))
    ]
    head = "".join(
        f"<th{' class=number' if right else ''}>{escape(name)}</th>"
        for name, right in zip(columns, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"number" if right else _width(value)}">{escape(_cell(value))}</td>'
            for value, right in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for row in listed
    )
    rows_text = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{rows_text}</table></div>'


def _width(value: Any) -> str:
    return "text" if len(str(value)) > _SHORT else "short"


def _is_number(value: Any) -> bool:
    if isinstance(value, str | None):
        number = r"nan|[-+.\de]+"
        error = rf"({number})( ± ({number}))?|\([-+.\d]+ ± [.\d]+\)e[-+]\d+"
        return re.fullmatch(rf"{error}|-?inf|", value or "") is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _footer(command: Sequence[str]) -> str:
    moment = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    try:
        version = metadata.version("bioplaus")
    except metadata.PackageNotFoundError:
        version = "from a checkout"
    line = f"<br><code>{escape(shlex.join(command))}</code>" if command else ""
    return f"<footer>Written {moment} by bioplaus {escape(version)}.{line}</footer>"


def write_page(path: Path, text: str, overwrite: bool = False) -> None:
    """Write the page, completely or not at all.

    Raises:
        InputError, StorageError: see `bridge.runlog.output.new_file`.
    """
    with new_file("--report", path, overwrite) as temporary:
        temporary.write_text(text, "utf-8")


def figure_names(chosen: Sequence[Section]) -> Mapping[str, Panel]:
    """Give each figure of a report a unique stem for a file name."""
    names: dict[str, Panel] = {}
    for panel in (panel for section in chosen for panel in section.panels):
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in panel.name).strip(".-")
        stem = stem[:80] or "figure"
        n, name = 2, stem
        while name in names:
            name, n = f"{stem}-{n}", n + 1
        names[name] = panel
    return names
