"""`warm-start`: train a language model on completions, before any preference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.folders import choose_folder, new_folder, note_folder
from bioplaus_cli.options import SweepOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import look_at, prepare, session_of
from bioplaus_cli.sweeps import LOG_AND_MODEL, sweep
from bridge.console import SWEEPING, RowTable, common_options, print_json, resolve_device, warn
from bridge.errors import RunFailed

if TYPE_CHECKING:
    from bridge.card import Card
    from bridge.progress import Progress
    from bridge.runlog import RunLog
    from bridge.session import Session
    from nlhf.config import WarmStartConfig
    from nlhf.language.warm_start import WarmStart


class WarmStartOptions(SweepOptions):
    """The options of `warm-start`."""

    model: str | None
    examples: str | None
    held_out: str | None
    save: Path | None
    epochs: int | None


@click.command("warm-start")
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option("--model", help="A causal language model: folder, hub name, smollm2, tiny:WORD,...")
@click.option("--examples", metavar="FILE.jsonl", help='Lines {"prompt": ..., "completion": ...}.')
@click.option(
    "--held-out",
    metavar="FILE.jsonl",
    help="Held-out examples for the report; by default a tenth of --examples.",
)
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the model, to use with nash-md --model; by default next to the log.",
)
@click.option("--epochs", type=int, help="Passes over the examples.")
@common_options("set", "print-config", "resume", "reschedule", "checkpoint-every")
@common_options("deterministic", *SWEEPING)
@common_options()
def warm_start(config: Path | None, **options: Unpack[WarmStartOptions]) -> None:
    """Train a language model on human answers, before nash-md learns from preferences.

    It saves a whole model, with any adapter merged, so that this model is the reference of a later
    training.

    Example: python cli.py warm-start --model smollm2 --examples docstrings/train.jsonl
    --held-out docstrings/test.jsonl --set lora.rank=8 --save warm
    """
    from bridge.progress import progress
    from nlhf.config import WarmStartConfig, make_warm_start
    from nlhf.language.saving import EXAMPLES, save_policy
    from nlhf.language.warm_start import ExampleRecord, HeldOutRecord

    given = picked(options, ("model", "examples", "held_out", "epochs", "seed"))
    print_config(WarmStartConfig, config, given, options)
    if sweep(WarmStartConfig, config, given, options, LOG_AND_MODEL):
        return
    settings, path = prepare("warm-start", WarmStartConfig, config, given, options)
    folder, replace = choose_folder(options["save"], path, options)
    device = resolve_device(options["device"])
    state = make_warm_start(settings, device)
    card = _card(settings, state)
    tell([card], options)
    shown = {name.removeprefix("eval_").replace("_", " "): f for name, f in _COLUMNS.items()}
    rows = RowTable(shown, quiet=options["quiet"] or options["as_json"] or not state.held)
    total = settings.epochs * len(state.examples) + (settings.epochs + 1) * len(state.held)
    with (
        session_of(
            path,
            settings,
            options,
            device,
            steps=state.steps,
            in_passing=lambda table, step: table != "metrics" or step % settings.log_every == 0,
            tables={"metrics": ExampleRecord, "held_out": HeldOutRecord},
            dataset={"name": settings.examples, "sha256": _digests(settings)},
            held=bool(state.held),
        ) as session,
        progress(total, "warm-start", options["quiet"]) as bar,
    ):
        log = session.log
        note_folder(log, options["save"], options["overwrite"])
        if session.start is None:
            keep([card], log)
        _learn(state, session, settings, rows, bar)
        records = [record for record in (state.record, state.held_record) if record is not None]
        last = {name: value for record in records for name, value in vars(record).items()}
        summary = {**last, "learned_from": len(state.examples), "policy": str(folder)}
        with new_folder(folder, replace) as fresh:
            about, say = _about(settings, last), partial(_doubt, log)
            save_policy(state.policy, fresh, about, card=EXAMPLES, merge=True, say=say)
            note_folder(log, options["save"], replace=True)
        log.event("summary", of=summary)
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        click.echo(f"policy: {folder}\nlog: {path}\n{look_at(path)}")


def _doubt(log: RunLog, text: str) -> None:
    """Say on stderr and in the log what did not go as asked."""
    warn(text)
    log.event("remark", text=text)


def _digests(settings: WarmStartConfig) -> dict[str, str]:
    """Compute the sha256 of each file of examples."""
    from nlhf.language.reading import digest

    files = {name: getattr(settings, name) for name in ("examples", "held_out")}
    return {name: digest(file) for name, file in files.items() if file}


def _learn(
    state: WarmStart, session: Session, settings: WarmStartConfig, rows: RowTable, bar: Progress
) -> None:
    """Train from where the session starts, and log."""
    from bridge.checkpoint import loading
    from nlhf.language.warm_start import ExampleRecord, HeldOutRecord, learn

    log, updates = session.log, settings.epochs * state.steps
    if session.start is not None:
        with loading():
            state.load_state_dict(session.start)
        bar.advance(state.seen)

    def on_step(record: ExampleRecord) -> None:
        if record.step % settings.log_every == 0 or record.step == updates:
            log.log("metrics", record)
        bar.advance(0, loss=record.loss)

    def on_held(record: HeldOutRecord) -> None:
        log.log("held_out", record)
        rows.row(*(getattr(record, name) for name in _COLUMNS))

    try:
        learn(
            state,
            on_step=on_step,
            on_held=on_held,
            after=lambda: session.after_step(state.step, state.state_dict),
            advance=bar.advance,
        )
    except FloatingPointError as error:
        raise RunFailed(str(error)) from None


def _card(settings: WarmStartConfig, state: WarmStart) -> Card:
    """Describe the training and held-out data, and how the files were read."""
    from bridge.card import Card
    from nlhf.language.text_facts import example_facts

    facts = example_facts(state.examples, state.held)
    for name, account in state.accounts.items():
        facts = facts.read_as(account, name)
    return Card(settings.examples, facts.of, facts.warnings)


_COLUMNS = {
    "epoch": "d",
    "eval_loss": ".4f",
    "eval_perplexity": ".2f",
    "eval_mean_token_accuracy": ".3f",
    "eval_entropy": ".3f",
}


def _about(config: WarmStartConfig, last: Mapping[str, object]) -> dict[str, object]:
    names = ("model", "examples", "held_out", "holdout", "epochs", "seed")
    measures = {name: last[name] for name in ("loss", "eval_loss") if name in last}
    return {"algorithm": "warm-start", **{n: getattr(config, n) for n in names}, **measures}
