"""The commands that only read and mend logs: `compare` and `runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bridge.console import EXIT_OUTSIDE_TOLERANCE, common_options, print_json, table


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Compare only these.")
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="NAME=VALUE",
    help="Exit with 3 if a metric differs by more at a common step.",
)
@common_options("json")
@click.pass_context
def compare(ctx: click.Context, logs: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Lay logs side by side, step by step; tell which configs differ, and in what.

    Logs that differ in the seed alone are averaged, with a 95 % confidence interval.

    A metric is TABLE/COLUMN, or COLUMN for the first table that has it. Estimators of the gradient
    are ranked by their angle to the true one, where the logs have checks.

    Example: python cli.py compare runs/a.h5 runs/b.h5 --tolerance test_error=0.1
    """
    from bridge.runlog import compare_runs, comparison_json, comparison_tables, parse_tolerances

    tolerances = parse_tolerances(options["tolerances"])
    found = compare_runs(logs, metrics=options["metrics"], tolerances=tolerances)
    if as_json:
        print_json(comparison_json(found, with_curves=bool(options["metrics"])))
    else:
        for title, columns, rows in comparison_tables(found):
            table(columns, rows, title)
    for excess in found.exceeded:
        click.echo(f"outside tolerance: {excess}", err=True)
    if found.exceeded:
        ctx.exit(EXIT_OUTSIDE_TOLERANCE)


@click.group()
def runs() -> None:
    """List, show and recover the logs of runs."""


@runs.command("list")
@click.argument("places", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE|FOLDER]...")
@common_options("json")
def runs_list(places: tuple[Path, ...], as_json: bool) -> None:
    """List logs: what ran, how it ended, and how far it came. Looks into runs/ if not told where.

    Example: python cli.py runs list runs
    """
    from bridge.runlog import find_logs, list_runs

    rows = list_runs(find_logs(places or (Path("runs"),)))
    if as_json:
        print_json(rows)
    else:
        columns = ["log", "command", "state", "started", "seconds", "rows", "step", "seed", "note"]
        table(columns, [[row.get(column) for column in columns] for row in rows])


@runs.command("show")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@common_options("json")
def runs_show(log: Path, as_json: bool) -> None:
    """Show what a log says: where it comes from, its config, and the figures of every table.

    Example: python cli.py runs show runs/eqprop-run-20260101-120000-abc123.h5
    """
    from bridge.config import flatten
    from bridge.runlog import describe, read_run

    about = describe(read_run(log))
    if as_json:
        print_json(about)
        return
    heads = ("log", "state", "started", "seconds", "note")
    facts = [(name, about[name]) for name in heads if about[name] != ""]
    table(["fact", "value"], [*facts, *sorted(about["meta"].items())])
    table(["key", "value"], flatten(about["config"]).items(), title="\nconfig")
    for name, content in about["tables"].items():
        figures = ("first", "last", "min", "max")
        rows = [[c, *(f.get(each) for each in figures)] for c, f in content["columns"].items()]
        table(["column", *figures], rows, title=f"\n{name}: {content['rows']} rows")
    table(["event", "what"], [(e["kind"], json.dumps(e)) for e in about["events"]], "\nevents")


@runs.command("recover")
@click.argument(
    "logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN.h5..."
)
@common_options("json")
def runs_recover(logs: tuple[Path, ...], as_json: bool) -> None:
    """Make ordinary HDF5 files of the logs of runs that were killed; every good row is kept.

    Example: python cli.py runs recover runs/eqprop-run-20260101-120000-abc123.h5
    """
    from bridge.runlog import recover

    done = [{"log": str(log), "dropped": dict(recover(log))} for log in logs]
    if as_json:
        print_json(done)
    else:
        table(
            ["log", "rows lost to damage"], [(d["log"], sum(d["dropped"].values())) for d in done]
        )
