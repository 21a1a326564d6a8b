"""`compare`: compare logs, in tables, pictures and one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from bridge.console import EXIT_OUTSIDE_TOLERANCE, Shortening, common_options, print_json, table
from bridge.invocation import command_words

if TYPE_CHECKING:
    from bridge.runlog import Comparison


class CompareOptions(TypedDict):
    """The other options of `compare`."""

    metrics: tuple[str, ...]
    tolerances: tuple[str, ...]
    quiet: bool
    overwrite: bool


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Compare only this metric; repeatable.",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="NAME=VALUE",
    help="Exit with code 3 if a metric differs by more at a common step.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="OUT.html",
    help="Write figures, tables and provenance as one self-contained page.",
)
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="FOLDER", help="Write a PNG of every figure."
)
@click.option(
    "--quiet", is_flag=True, help="Print only the comparison, without the notes below it."
)
@common_options("json", "overwrite")
@click.pass_context
def compare(
    ctx: click.Context,
    logs: tuple[Path, ...],
    report: Path | None,
    png: Path | None,
    as_json: bool,
    **options: Unpack[CompareOptions],
) -> None:
    """Compare logs: first the result, then each metric by step, and the differing settings.

    Logs that differ only in the seed are averaged, with a 95 % confidence interval. The result of
    each config is compared with that of the first, seed by seed, over the seeds that both have.

    A metric is TABLE/COLUMN, or COLUMN for the first table that has it. If the logs have gradient
    checks, the estimators are ranked by their angle to the true gradient.

    Example: python cli.py compare runs/a.h5 runs/b.h5 --report report.html
    """
    from bioplaus_cli.headlines import ESTIMATORS, HEADLINES
    from bridge.runlog import compare_runs, comparison_json, comparison_tables, parse_tolerances

    if options["overwrite"] and not report:
        raise click.UsageError("--overwrite is for --report; give it too")
    tolerances = parse_tolerances(options["tolerances"])
    _check_outputs(report, png, options["overwrite"])
    found = compare_runs(
        logs,
        metrics=options["metrics"],
        tolerances=tolerances,
        known=HEADLINES,
        contest=ESTIMATORS,
    )
    written = _write(found, report, png, options["overwrite"])
    if as_json:
        about = comparison_json(found, with_curves=bool(options["metrics"]))
        print_json({**about, "files": [str(path) for path in written]})
    else:
        for title, columns, rows in comparison_tables(found):
            shorten: list[Shortening] = [("log", "middle", 20)] if "log" in columns else []
            table(columns, rows, title, shorten)
        for note in () if options["quiet"] else _notes(found, written):
            click.echo(note, err=True)
    for excess in found.exceeded:
        click.echo(f"outside tolerance: {excess}", err=True)
    if found.exceeded:
        ctx.exit(EXIT_OUTSIDE_TOLERANCE)


def _notes(found: Comparison, written: Sequence[Path]) -> Iterator[str]:
    of = "steps and differences are of all, means over seeds and figures of the extremes"
    yield from (f"{name}: {rows} rows; {of}" for name, rows in found.sampled.items())
    yield from (f"written: {path}" for path in written)


def _check_outputs(report: Path | None, png: Path | None, overwrite: bool) -> None:
    from bridge.report.policies import check_drawing
    from bridge.runlog.output import check_new_file, check_new_folder

    if report:
        if report.suffix.lower() not in (".html", ".htm"):
            raise click.UsageError(f"--report {report}: the name must end in .html")
        check_new_file("--report", report, overwrite)
    if png:
        check_drawing("--png")
        check_new_folder("--png", png)


def _write(found: Comparison, report: Path | None, png: Path | None, overwrite: bool) -> list[Path]:
    from bioplaus_cli.figure_layout import LAYOUT
    from bridge.report.figures import sections
    from bridge.report.html import figure_names, page, write_page
    from bridge.report.panels import draw_panels
    from bridge.runlog.output import new_folder

    written = []
    if report:
        write_page(report, page(found, command_words(), layout=LAYOUT), overwrite)
        written.append(report)
    if png:
        named = figure_names(sections(found, LAYOUT))
        with new_folder("--png", png) as folder:
            for name, panel in named.items():
                draw_panels(folder / f"{name}.png", [panel], columns=1)
        written += [png / f"{name}.png" for name in named]
    return written
