"""`preference-train`: fit a preference model to people's choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.folders import choose_folder, new_folder, note_folder
from bioplaus_cli.options import SweepOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import prepare, session_of
from bioplaus_cli.sweeps import sweep
from bridge.console import (
    SWEEPING,
    RowTable,
    common_options,
    print_json,
    resolve_device,
    table,
)
from bridge.errors import RunFailed

if TYPE_CHECKING:
    from bridge.progress import Progress
    from bridge.session import Session
    from nlhf.config import PreferenceConfig
    from nlhf.language.assessment import Assessment, Cycles
    from nlhf.language.preference_training import Fit


class PreferenceOptions(SweepOptions):
    """The options of `preference-train`."""

    pairs: str | None
    model: str | None
    head: str | None
    tune: str | None
    epochs: int | None
    log: Path | None


FLAGS = ("pairs", "model", "head", "tune", "epochs", "seed")


@click.command("preference-train")
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option("--pairs", metavar="FILE.jsonl", help="Comparisons: chosen and rejected, or votes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New folder for the model, for use with --preference; for several runs, their folder.",
)
@click.option("--model", help="Encoder of the texts: hashed, a folder or a hub name.")
@click.option("--head", help="pairwise, skew-symmetric or bradley-terry.")
@click.option("--tune", help="Training of the encoder: frozen, lora or full.")
@click.option("--epochs", type=int, help="Passes over the comparisons.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE.h5", help="Path of the log.")
@common_options("set", "print-config", "resume", "reschedule", "checkpoint-every")
@common_options("deterministic", *SWEEPING)
@common_options("json", "seed", "overwrite", "device", "threads", "quiet")
def preference_train(config: Path | None, **options: Unpack[PreferenceOptions]) -> None:
    """Fit a preference model; report its accuracy, calibration and cycles.

    Example: python cli.py preference-train --pairs docstrings/pairs.jsonl --out preference
    """
    from bridge.card import Card
    from bridge.progress import progress
    from nlhf.config import PreferenceConfig, make_fit
    from nlhf.language.preference_training import BinRecord, EpochRecord, StepRecord
    from nlhf.language.reading import digest

    flags, log = picked(options, FLAGS), options["log"]
    places = {"log": ".h5", "out": ""}
    own: PreferenceOptions = {**options, "out": log}
    print_config(PreferenceConfig, config, flags, own)
    out = _required(options["out"])
    if sweep(PreferenceConfig, config, flags, options, places):
        return
    settings, path = prepare("preference-train", PreferenceConfig, config, flags, own, "--log")
    _, replace = choose_folder(out, path, own)
    device = resolve_device(own["device"])
    state = make_fit(settings, device)
    card = Card(settings.pairs, state.facts.of, state.facts.warnings)
    tell([card], own)
    rows = RowTable(_columns(bool(state.held)), quiet=own["quiet"] or own["as_json"])
    source = {"name": settings.pairs, "sha256": digest(settings.pairs)}
    with (
        session_of(
            path,
            settings,
            own,
            device,
            steps=state.batches,
            tables={"metrics": StepRecord, "epochs": EpochRecord, "reliability": BinRecord},
            dataset=source,
            held=bool(state.held),
            log_option=f"--out {out} --log",
        ) as session,
        progress(settings.epochs * len(state.learn), "learning", own["quiet"]) as bar,
    ):
        run = session.log
        note_folder(run, out, own["overwrite"])
        if session.start is None:
            keep([card], run)
        held = _learned(state, session, settings, rows, bar)
        report = _report(source, state, held)
        with new_folder(out, replace) as folder:
            state.model.save(folder, report)
            note_folder(run, out, replace=True)
        summary = {**report, "model": str(out)}
        run.event("summary", of=summary)
    _tell(summary, held, path, own)


def _learned(
    state: Fit, session: Session, settings: PreferenceConfig, rows: RowTable, bar: Progress
) -> Assessment | None:
    """Fit from where the session starts, and log; give the assessment, if anything is held out."""
    from bridge.checkpoint import loading
    from nlhf.language.preference_training import EpochRecord, StepRecord, bin_records, fit

    log, columns = session.log, _columns(bool(state.held))
    if session.start is not None:
        with loading():
            state.load_state(session.start)
        bar.advance(state.seen)

    def on_step(record: StepRecord) -> None:
        if record.step % settings.log_every == 0:
            log.log("metrics", record)

    def on_epoch(record: EpochRecord) -> None:
        log.log("epochs", record)
        rows.row(*(getattr(record, name.replace(" ", "_")) for name in columns))

    def after() -> bool:
        session.after_step(state.step, state.state)
        return False

    try:
        held = fit(state, on_step=on_step, on_epoch=on_epoch, after=after, advance=bar.advance)
    except FloatingPointError as error:
        raise RunFailed(str(error)) from None
    for record in bin_records(held, state.step) if held else []:
        log.log("reliability", record)
    return held


def _tell(
    summary: Mapping[str, object], held: Assessment | None, path: Path, options: PreferenceOptions
) -> None:
    """Print the result."""
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        if held:
            _show(held)
        click.echo(f"kept: epoch {summary['best_epoch']}\nmodel: {summary['model']}\nlog: {path}")


def _required(out: Path | None) -> Path:
    """Require the folder of the model, which only --print-config can do without."""
    if out is None:
        raise click.MissingParameter(param_type="option", param_hint="'--out'")
    return out


def _report(pairs: dict[str, str], state: Fit, held: Assessment | None) -> dict[str, object]:
    """Build the report that is saved with the model and printed at the end."""
    return {
        "pairs": pairs,
        "learned_from": len(state.learn),
        "best_epoch": state.best_epoch,
        "held_out": held.as_json() if held else None,
    }


def _columns(held: bool) -> dict[str, str]:
    columns = {"epoch": "d", "loss": ".4f", "accuracy": ".3f", "check loss": ".4f"}
    if held:
        columns |= {"eval loss": ".4f", "eval accuracy": ".3f", "longer": ".3f", "ece": ".3f"}
    return columns


def _show(held: Assessment) -> None:
    low, high = held.accuracy_low, held.accuracy_high
    table(
        ("held out", "value"),
        [
            ["comparisons", held.n],
            [
                "accuracy (decided)",
                f"{held.accuracy:.3f} [{low:.3f}, {high:.3f}] of {held.decided}",
            ],
            ["the longer answer wins", f"{held.longer:.3f}"],
            ["loss, nats a vote", f"{held.loss:.4f}"],
            ["calibration error", f"{held.ece:.4f}"],
            ["cyclic triads, model", _cycles(held.model_cycles)],
            ["cyclic triads, votes", _cycles(held.vote_cycles)],
            ["cyclic share of the logits", f"{held.model_cycles.energy:.4f}"],
        ],
    )
    found = [b for b in held.bins if b.count]
    columns = ("confidence", "comparisons", "mean confidence", "agreement")
    cells = [[f"{b.low:.2f} - {b.high:.2f}", b.count, b.confidence, b.agreement] for b in found]
    table(columns, cells)


def _cycles(cycles: Cycles) -> str:
    return f"{cycles.cyclic:.4f} of {cycles.triads}" if cycles.triads else "no three answers"
