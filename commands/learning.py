"""What commands share that train a field: the loop, its log, its table and its warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from bridge.console import RowTable
from commands.cards import keep, tell
from commands.shared import events_of, session_of


def learn(
    run: Any,
    path: Path,
    device: str,
    group: Any,
    options: dict[str, Any],
    columns: Mapping[str, str],
    cells: Callable[[Any], list[Any]],
    at_end: Callable[[Any], None] = lambda log: None,
) -> dict[str, Any]:
    """Train and log; give the summary.

    Args:
        run: what `build` made.
        path: the log.
        device: where it computes.
        group: the processes of the run.
        options: of the command line.
        columns: of the table of epochs, and how their numbers are written.
        cells: what stands in them, from an epoch's record.
        at_end: given the log before the summary is noted.
    """
    from bioplaus.gradient_row import CURES
    from bioplaus.training import train
    from bridge.progress import progress
    from bridge.usercode import record_origins

    settings = run.config
    if group.rank == 0:
        tell([run.card], options)
    silent = options["quiet"] or options["as_json"]
    rows = RowTable(columns, quiet=silent)
    known = events_of(path) if options["resume"] else ()
    total = settings.epochs * len(run.dataset.train)
    with (
        session_of(
            path,
            settings,
            options,
            device,
            steps=-(-len(run.dataset.train) // settings.batch_size),
            tables=_tables(run),
            dataset={"name": run.dataset.name, "sha256": run.dataset.sha256},
            weights=run.field.parameters,
            group=group,
            ranks=settings.micro_shards > 1,
        ) as session,
        progress(total, "training", options["quiet"]) as bar,
    ):
        log = session.log
        if session.start is None:
            keep([run.card], log)

        def warn(text: str) -> None:
            log.event("warning", text=text)
            click.echo(f"warning: {text}", err=True)

        record_origins(run.origins, known, log.event, warn)

        def on_epoch(record: Any) -> None:
            log.log("epochs", record)
            log.save_weights(record.step, run.field.parameters)
            rows.row(*cells(record))

        doubted: set[str] = set()

        def on_check(record: Any) -> None:
            log.log("gradients", record)
            if record.parameter == "all" and record.reason and record.reason not in doubted:
                doubted.add(record.reason)
                what = f"check of gradients at step {record.step}: {record.reason}"
                warn(f"{what}; {CURES[record.reason]}")

        summary = train(
            run,
            on_step=lambda r: log.log("metrics", r),
            on_epoch=on_epoch,
            on_check=on_check,
            on_act=lambda act: log.event("contraction", **vars(act)),
            advance=bar.advance,
            start=session.start,
            after_step=session.after_step,
            warn=warn,
            note=lambda text: log.event("program", text=text),
            known_every=options["checkpoint_every"],
        )
        said = {**vars(summary), "seed": settings.seed}
        at_end(log)
        log.event("summary", of=said)
    return said


def _tables(run: Any) -> dict[str, type]:
    """Of the log, the types of rows by name."""
    tables = {"metrics": run.step_record, "epochs": run.epoch_record}
    if run.config.check_gradients_every:
        tables["gradients"] = run.check_record
    return tables
