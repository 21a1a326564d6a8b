"""What commands that train a field share: the loop, its log, its table and its warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.options import TrainingOptions
from bioplaus_cli.shared import events_of, session_of
from bridge.console import RowTable, warn

if TYPE_CHECKING:
    from bioplaus.training import Run
    from bioplaus.training.loop import Course, Listeners
    from bridge.distributed import Group
    from bridge.runlog import RunLog
    from bridge.session import Session


class EpochRecord(Protocol):
    """The measures of an epoch; which ones depends on the run."""

    @property
    def step(self) -> int: ...


class CheckRecord(Protocol):
    """A row of a gradient check, see `bioplaus.gradient_row.record_type`."""

    @property
    def step(self) -> int: ...
    @property
    def parameter(self) -> str: ...
    @property
    def reason(self) -> str: ...


def learn(
    run: Run,
    path: Path,
    device: str,
    group: Group,
    options: TrainingOptions,
    columns: Mapping[str, str],
    cells: Callable[[EpochRecord], list[object]],
    at_end: Callable[[RunLog], None] = lambda log: None,
) -> dict[str, object]:
    """Train and log; give the summary.

    Args:
        run: the result of `build`.
        path: the log.
        device: where it computes.
        group: the processes of the run.
        options: of the command line.
        columns: of the table of epochs, with their number formats.
        cells: makes the cells from an epoch's record.
        at_end: called with the log before the summary is recorded.
    """
    from bioplaus.training.loop import follow
    from bioplaus.training.updates import chosen
    from bridge.progress import progress

    if group.rank == 0:
        tell([run.card], options)
    rows = RowTable(columns, quiet=options["quiet"] or options["as_json"])
    total = run.config.epochs * len(run.dataset.train)
    with progress(total, "training", options["quiet"]) as bar:
        own = lessons(
            run,
            path,
            device,
            group,
            options,
            on_row=lambda record: rows.row(*cells(record)),
            advance=bar.advance,
            say=warn,
            at_end=at_end,
        )
        every = options["checkpoint_every"]
        return follow(own, lambda ask: chosen(run, ask.note, every=every))


def lessons(
    run: Run,
    path: Path,
    device: str,
    group: Group,
    options: TrainingOptions,
    *,
    on_row: Callable[[EpochRecord], None] = lambda record: None,
    advance: Callable[[int], None] = lambda images: None,
    say: Callable[[str], None] = lambda text: None,
    at_end: Callable[[RunLog], None] = lambda log: None,
    signals: Sequence[int] | None = None,
) -> Course:
    """Train a run step by step, like `bioplaus.training.loop.course`, and log it.

    Args:
        run, path, device, group, options, at_end: see `learn`.
        on_row: called with each epoch's record.
        advance: called with the number of images after each step.
        say: receives the warnings that the log records.
        signals: see `bridge.session.training_session`.

    Returns:
        The summary.
    """
    from bioplaus.training.loop import course
    from bridge.usercode import record_origins

    settings = run.config
    known = events_of(path) if options["resume"] else ()
    with session_of(
        path,
        settings,
        options,
        device,
        steps=-(-len(run.dataset.train) // settings.batch_size),
        courses=run.objective.courses,
        tables=_tables(run),
        dataset={"name": run.dataset.name, "sha256": run.dataset.sha256},
        weights=run.field.parameters,
        headline=run.objective.headline(run),
        group=group,
        ranks=settings.micro_shards > 1,
        signals=signals,
    ) as session:
        log = session.log
        if session.start is None:
            keep([run.card], log)

        def warn_in_log(text: str) -> None:
            log.event("warning", text=text)
            say(text)

        record_origins(run.origins, known, log.event, warn_in_log)

        listeners = _listeners(run, session, on_row, advance, warn_in_log)
        every = options["checkpoint_every"]
        course_summary = yield from course(run, listeners, start=session.start, known_every=every)
        summary = {**vars(course_summary), "seed": settings.seed}
        at_end(log)
        log.event("summary", of=summary)
    return summary


def _listeners(
    run: Run,
    session: Session,
    on_row: Callable[[EpochRecord], None],
    advance: Callable[[int], None],
    warn: Callable[[str], None],
) -> Listeners:
    """Make the callbacks that log a training."""
    from bioplaus.gradient_row import CURES
    from bioplaus.training.loop import Listeners

    log = session.log
    doubted: set[str] = set()

    def on_epoch(record: EpochRecord) -> None:
        log.log("epochs", record)
        log.save_weights(record.step, run.field.parameters)
        on_row(record)

    def on_check(record: CheckRecord) -> None:
        log.log("gradients", record)
        if record.parameter == "all" and record.reason and record.reason not in doubted:
            doubted.add(record.reason)
            what = f"check of gradients at step {record.step}: {record.reason}"
            warn(f"{what}; {CURES[record.reason]}")

    return Listeners(
        on_step=lambda r: log.log("metrics", r),
        on_epoch=on_epoch,
        on_check=on_check,
        on_act=lambda act: log.event("contraction", **vars(act)),
        advance=advance,
        after_step=session.after_step,
        warn=warn,
        note=lambda text: log.event("program", text=text),
    )


def _tables(run: Run) -> dict[str, type]:
    """Give the record types of the log's tables, by name."""
    tables = {"metrics": run.step_record, "epochs": run.epoch_record}
    if run.config.check_gradients_every:
        tables["gradients"] = run.check_record
    return tables
