"""`runs`: list, show, follow, view, export and repair logs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.console import Commands, Shortening, common_options, print_json, table

if TYPE_CHECKING:
    from bridge.report.loopback import Loopback


@click.group(cls=Commands)
def runs() -> None:
    """List, show, view, export and recover the logs of runs."""


@runs.command("list")
@click.argument("places", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE|FOLDER]...")
@click.option("--sort", metavar="KEY", help="Sort by a column or a setting; the best result first.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="KEY=VALUE",
    help="List only runs that meet this; also != < <= > >=; repeatable.",
)
@click.option("--quiet", is_flag=True, help="Print only the list, without the notes below it.")
@common_options("json")
def runs_list(
    places: tuple[Path, ...],
    sort: str | None,
    reverse: bool,
    conditions: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """List logs: the command, the result, the settings that differ, and how each run ended.

    Without a path it looks into runs/. The oldest log is first. The result is the value of the
    command's main metric at the last step; the age is the time since the log's last sign of life.

    A KEY is log, command, result, metric, age, status, step, seed, started, seconds, rows, alive or
    note; or a setting, such as optimizer.learning_rate.

    \b
    Examples:
      python cli.py runs list runs
      python cli.py runs list runs --filter status=finished --sort result
      python cli.py runs list runs --filter command=eqprop-run --filter "network.gain<1"
    """
    from bioplaus_cli.headlines import HEADLINES
    from bridge.runlog import find_logs, list_runs
    from bridge.runlog.choosing import Condition, chosen, differing, ordered

    if reverse and not sort:
        raise click.UsageError("--reverse is for --sort; give it too")
    wanted = [Condition.parse(text) for text in conditions]
    rows = chosen(list_runs(find_logs(places or (Path("runs"),)), HEADLINES), wanted)
    rows = ordered(rows, sort, reverse) if sort else rows
    settings = differing(rows)
    if as_json:
        print_json([{**row, "differs": each} for row, each in zip(rows, settings, strict=True)])
        return
    _print_list(rows, settings)
    for row in () if quiet else rows:
        if row["note"]:
            click.echo(f"{row['log']}: {row['note']}", err=True)


_MOST_COLUMNS = 4
"""Settings with a column of their own, if all listed runs are of one command."""


def _print_list(rows: Sequence[Mapping[str, Any]], settings: Sequence[Mapping[str, Any]]) -> None:
    from bridge.runlog.choosing import named, short_names, short_value

    keys = list(dict.fromkeys(key for each in settings for key in each))
    of_one = len({row.get("command") for row in rows} - {None}) <= 1 and len(keys) <= _MOST_COLUMNS
    names = list(short_names(keys).values()) if of_one else ["differs in"]
    metrics = {(row["label"], row["unit"]) for row in rows if row.get("label")}
    heading = _titled(*next(iter(metrics))) if len(metrics) == 1 else "result"
    cells = []
    for row, each in zip(rows, settings, strict=True):
        values = [each.get(key) for key in keys]
        plain = [v if isinstance(v, int | float) or v is None else short_value(v) for v in values]
        differs = plain if of_one else [named(each)]
        result = row.get("result") if len(metrics) == 1 else _result(row)
        head = [row["log"], row.get("command"), result]
        cells.append([*head, *differs, _age(row.get("age")), row["state"]])
    columns = ["log", "command", heading, *names, "age", "status"]
    short: list[Shortening] = [("log", "middle", 20), (heading, "end", 10), ("log", "middle", 12)]
    if not of_one:
        short.append(("differs in", "end", 16))
    short.append(("command", "end", 10))
    table(columns, cells, shorten=short)


def _titled(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def _result(row: Mapping[str, Any]) -> str:
    if row.get("result") is None:
        return ""
    return " ".join(filter(None, (f"{row['result']:.4g}", row["unit"], row["label"])))


def _age(seconds: float | None) -> str:
    """Write an age in the largest unit of which it has at least two."""
    if seconds is None:
        return ""
    units = ((86400, "d"), (3600, "h"), (60, "min"))
    return next(
        (f"{seconds // n:.0f} {u}" for n, u in units if seconds >= 2 * n), f"{seconds:.0f} s"
    )


@runs.command("show")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--follow", is_flag=True, help="Plot the newest metrics until the run ends.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Follow only this metric; repeatable.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=None,
    help="Seconds between two updates; 1 by default.",
)
@common_options("json")
def runs_show(
    log: Path, follow: bool, metrics: tuple[str, ...], interval: float | None, as_json: bool
) -> None:
    """Show what is in a log: its origin, its config, and a summary of every table.

    With --follow, show curves of its metrics, redrawn while the run goes on; if stdout is no
    terminal, one line per change.

    Example: python cli.py runs show runs/eqprop-run-20260101-120000-abc123.h5 --follow
    """
    from bioplaus_cli.headlines import HEADLINES
    from bridge.card import EVENT, cards_of
    from bridge.config import flatten
    from bridge.runlog import describe_log

    if metrics and not follow:
        raise click.UsageError("--metric needs --follow")
    if interval is not None and not follow:
        raise click.UsageError("--interval is for --follow; give it too")
    if follow:
        _follow(log, metrics, interval or 1.0, as_json)
        return
    about = describe_log(log, HEADLINES)
    if as_json:
        print_json(about)
        return
    heads = ("log", "state", "started", "seconds", "note")
    facts = [("result", result)] if (result := _result(about)) else []
    facts += [(name, about[name]) for name in heads if about[name] != ""]
    table(["fact", "value"], [*facts, *sorted(about["meta"].items())])
    table(["key", "value"], flatten(about["config"]).items(), title="\nconfig")
    for card in cards_of(about["events"]):
        table(["fact", "value"], card.rows(), title="\ndata")
    for name, content in about["tables"].items():
        figures = ("first", "last", "min", "max")
        rows = [[c, *(f.get(each) for each in figures)] for c, f in content["columns"].items()]
        table(["column", *figures], rows, title=f"\n{name}: {content['rows']} rows")
    events = [(e["kind"], json.dumps(e)) for e in about["events"] if e["kind"] != EVENT]
    table(["event", "what"], events, "\nevents")


def _follow(log: Path, metrics: tuple[str, ...], interval: float, as_json: bool) -> None:
    from bioplaus_cli.headlines import ESTIMATORS
    from bridge.report.terminal import line, show_live, watch

    views = watch(log, metrics, interval, contest=ESTIMATORS)
    try:
        if sys.stdout.isatty() and not as_json:
            show_live(views)
            return
        for view in views:
            if as_json:
                print_json({"state": view.run.state, "step": view.step, "values": view.newest})
            else:
                click.echo(line(view))
    except KeyboardInterrupt:
        # A viewer may stop looking; the run goes on.
        click.echo(err=True)


@runs.command("view")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port; by default any free one."
)
@click.option("--browser", is_flag=True, help="Open the page in the browser.")
@common_options("json")
def runs_view(log: Path, port: int, browser: bool, as_json: bool) -> None:
    """Show a log in h5web's viewer, served to this machine only, until Ctrl-C.

    Reloading the page shows the newest rows of a growing log.

    Example: python cli.py runs view runs/eqprop-run-20260101-120000-abc123.h5
    """
    from bridge.report.viewer import Viewer

    with Viewer(log, port) as viewer:
        _serve(viewer, {"log": str(log)}, browser, as_json)


@runs.command("watch")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port; by default any free one."
)
@click.option("--browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=5.0,
    show_default=True,
    help="Seconds between two reads of the logs.",
)
@common_options("json")
def runs_watch(folder: Path, port: int, browser: bool, interval: float, as_json: bool) -> None:
    """Serve a live report on all active runs of a folder, until Ctrl-C.

    The page is served to this machine only and refreshes itself. Runs that end meanwhile stay on
    it. Subfolders are included.

    Example: python cli.py runs watch runs --browser
    """
    from bioplaus_cli.figure_layout import LAYOUT
    from bioplaus_cli.headlines import HEADLINES
    from bridge.report.watch import Watch

    with Watch(folder, port, interval, HEADLINES, LAYOUT) as watch:
        _serve(watch, {"folder": str(folder)}, browser, as_json)


def _serve(server: Loopback, what: Mapping[str, str], browser: bool, as_json: bool) -> None:
    """Print the page's address, and serve until Ctrl-C."""
    with server.doorway() as page:
        try:
            if as_json:
                print_json({"address": server.address, **what})
            else:
                served = ", ".join(what.values())
                click.echo(
                    f"{server.address}\nserving {served} on this machine only; stop with Ctrl-C"
                )
            sys.stdout.flush()
            if browser:
                click.launch(str(page))
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


@runs.command("export")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--format", "form", type=click.Choice(["csv", "parquet", "tensorboard"]), default="csv"
)
@click.option(
    "--table", "tables", multiple=True, metavar="NAME", help="Export only this table; repeatable."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@common_options("json")
def runs_export(log: Path, form: str, tables: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write a log's tables into a new folder, for other programs.

    csv and parquet: one file per table. tensorboard: one event file of scalars.

    Example: python cli.py runs export runs/eqprop-run-20260101-120000-abc123.h5 --out exported
    """
    from bridge.runlog import export_run

    written = export_run(log, form, out, tables)
    if as_json:
        print_json({"files": [str(path) for path in written]})
    else:
        for path in written:
            click.echo(path)


@runs.command("recover")
@click.argument(
    "logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN.h5..."
)
@common_options("json")
def runs_recover(logs: tuple[Path, ...], as_json: bool) -> None:
    """Turn the logs of killed runs into ordinary HDF5 files; every undamaged row is kept.

    If a run had already finished, its remaining checkpoints are removed too.

    Example: python cli.py runs recover runs/eqprop-run-20260101-120000-abc123.h5
    """
    from bridge.runlog import recover

    done = []
    for log in logs:
        done.append({"log": str(log), "dropped": dict(recover(log))})
        _tidy(log)
    if as_json:
        print_json(done)
    else:
        table(
            ["log", "rows lost to damage"], [(d["log"], sum(d["dropped"].values())) for d in done]
        )


def _tidy(log: Path) -> None:
    """Remove the checkpoints of a finished run whose log is sealed."""
    from bridge.runlog.stream import open_log

    if log.with_name(f"{log.name}.checkpoints").is_dir():
        with open_log(log) as found:
            status = found.status
        if status == "finished":
            from bridge.session import tidy

            tidy(log)


@runs.command("index")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@common_options("json")
def runs_index(folder: Path, as_json: bool) -> None:
    """Rebuild the index of a sweep's folder from its logs.

    Example: python cli.py runs index runs/beta
    """
    from bridge.sweep import INDEX, rebuild_index

    jobs = rebuild_index(folder)
    if as_json:
        logs = [{"log": str(job.log), "status": job.status, "point": job.point} for job in jobs]
        print_json({"index": str(folder / f"{INDEX}.json"), "runs": logs})
    else:
        table(["log", "status", "note"], [(job.log.name, job.status, job.message) for job in jobs])
