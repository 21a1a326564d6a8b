"""`runs`: list, show, follow, view, export and mend logs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from bridge.console import Commands, common_options, print_json, table


@click.group(cls=Commands)
def runs() -> None:
    """List, show, view, export and recover the logs of runs."""


@runs.command("list")
@click.argument("places", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE|FOLDER]...")
@common_options("json")
def runs_list(places: tuple[Path, ...], as_json: bool) -> None:
    """List logs: what ran, whether it lives, how it ended, and how far it came.

    Looks into runs/ if not told where. The age is the time since the log was last heard of.

    Example: python cli.py runs list runs
    """
    from bridge.runlog import find_logs, list_runs

    rows = list_runs(find_logs(places or (Path("runs"),)))
    if as_json:
        print_json(rows)
    else:
        columns = ["log", "command", "state", "alive", "age", "started", "seconds", "rows", "step"]
        columns += ["seed", "note"]
        shown = [{**row, "age": _age(row.get("age"))} for row in rows]
        table(columns, [[row.get(column) for column in columns] for row in shown])


def _age(seconds: float | None) -> str:
    """Say how long ago, in the largest unit that it has two of."""
    if seconds is None:
        return ""
    units = ((86400, "d"), (3600, "h"), (60, "min"))
    return next(
        (f"{seconds // n:.0f} {u}" for n, u in units if seconds >= 2 * n), f"{seconds:.0f} s"
    )


@runs.command("show")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--follow", is_flag=True, help="Draw the newest metrics until the run ends.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Follow only these.")
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=None,
    help="Seconds between two looks; 1.",
)
@common_options("json")
def runs_show(
    log: Path, follow: bool, metrics: tuple[str, ...], interval: float | None, as_json: bool
) -> None:
    """Show what a log says: where it comes from, its config, and the figures of every table.

    With --follow: curves of its metrics, drawn anew while the run writes it; one line a change
    where stdout is no terminal.

    Example: python cli.py runs show runs/eqprop-run-20260101-120000-abc123.h5 --follow
    """
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
    about = describe_log(log)
    if as_json:
        print_json(about)
        return
    heads = ("log", "state", "started", "seconds", "note")
    facts = [(name, about[name]) for name in heads if about[name] != ""]
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
    from bridge.report.terminal import line, show_live, watch

    views = watch(log, metrics, interval)
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
        # Whoever looks on may look away; the run goes on.
        click.echo(err=True)


@runs.command("view")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="A free one by default.")
@click.option("--browser", is_flag=True, help="Open the page in the browser.")
@common_options("json")
def runs_view(log: Path, port: int, browser: bool, as_json: bool) -> None:
    """Serve h5web's viewer for one log on this machine's own address, until Ctrl-C.

    Loading the page again shows the newest rows of a log that grows.

    Example: python cli.py runs view runs/eqprop-run-20260101-120000-abc123.h5
    """
    from bridge.report.viewer import Viewer

    with Viewer(log, port) as viewer, viewer.doorway() as page:
        try:
            if as_json:
                print_json({"address": viewer.address, "log": str(log)})
            else:
                click.echo(
                    f"{viewer.address}\nserving {log} on this machine only; stop with Ctrl-C"
                )
            sys.stdout.flush()
            if browser:
                click.launch(str(page))
            viewer.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


@runs.command("export")
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--format", "form", type=click.Choice(["csv", "parquet", "tensorboard"]), default="csv"
)
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Only these; repeatable.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@common_options("json")
def runs_export(log: Path, form: str, tables: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write a log's tables into a new folder, for other programs.

    csv and parquet: a file a table. tensorboard: an event file of scalars.

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
    """Make ordinary HDF5 files of the logs of runs that were killed; every good row is kept.

    Of a run that had finished the checkpoints are removed too, which it could not remove itself.

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
    """Remove the checkpoints of a finished run whose sealed log is in place."""
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
    """Write the index of a sweep's folder anew, from the logs that are there.

    Example: python cli.py runs index runs/beta
    """
    from bridge.sweep import INDEX, rebuild_index

    jobs = rebuild_index(folder)
    if as_json:
        logs = [{"log": str(job.log), "status": job.status, "point": job.point} for job in jobs]
        print_json({"index": str(folder / f"{INDEX}.json"), "runs": logs})
    else:
        table(["log", "status", "note"], [(job.log.name, job.status, job.message) for job in jobs])
