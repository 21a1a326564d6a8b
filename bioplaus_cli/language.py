"""`nash-md --model`: train a language model against a preference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bioplaus_cli.options import SweepOptions, picked
from bridge.console import print_json, resolve_device, table

if TYPE_CHECKING:
    from bioplaus_cli.judging import Account
    from bridge.card import Card
    from bridge.distributed import Group
    from bridge.live import Watchers
    from bridge.progress import Progress
    from bridge.runlog import RunLog
    from bridge.session import Session
    from nlhf.config import LanguageConfig
    from nlhf.language.records import EvaluationRecord, ExactRecord, LanguageRecord
    from nlhf.language.stopwatch import Stopwatch
    from nlhf.training import LanguageRun


class LanguageOptions(SweepOptions):
    """The options of `nash-md --model`."""

    config: Path | None
    game: str | None
    model: str | None
    prompts: str | None
    preference: str | None
    max_calls: int | None
    save: Path | None
    algorithm: str | None
    tau: float | None
    iterations: int | None
    plot: Path | None


TABLE_ONLY = ("game", "plot")


def nash_language(options: LanguageOptions) -> None:
    """Train a language model; the body of `nash-md` if --model is given."""
    from bioplaus_cli.folders import choose_folder
    from bioplaus_cli.printing import print_config
    from bioplaus_cli.shared import prepare
    from bioplaus_cli.sweeps import LOG_AND_MODEL, sweep
    from bridge.distributed import joined
    from nlhf.config import LanguageConfig
    from nlhf.language.hub import check_repository
    from nlhf.training import build_language

    for name, value in picked(options, TABLE_ONLY).items():
        if value is not None:
            raise click.UsageError(f"--{name} is for tables; leave it out with --model")
    names = ("model", "prompts", "preference", "max_calls", "algorithm", "tau", "iterations")
    given = picked(options, (*names, "seed"))
    print_config(LanguageConfig, options["config"], given, options)
    if sweep(LanguageConfig, options["config"], given, options, LOG_AND_MODEL):
        return
    device = resolve_device(options["device"])
    with joined(device) as group:
        settings, path = prepare(
            "nash-md", LanguageConfig, options["config"], given, options, group=group
        )
        if group.size > 1 and settings.shard == "fsdp" and options["checkpoint_every"]:
            raise click.UsageError(
                "--checkpoint-every has no meaning with shard=fsdp, whose weights no process has "
                "whole; leave it out or use shard=ddp"
            )
        if group.rank == 0:
            with group.telling() as message:
                folder, replace = choose_folder(options["save"], path, options)
                message |= {"folder": str(folder), "replace": replace}
        else:
            message = group.hear()
            folder, replace = Path(message["folder"]), message["replace"]
        if settings.push_to_hub is not None:
            check_repository(settings.push_to_hub)
        run = build_language(settings, device, group)
        _train(run, group, path, folder, replace, options)


def _train(
    run: LanguageRun,
    group: Group,
    path: Path,
    folder: Path,
    replace: bool,
    options: LanguageOptions,
) -> None:
    """Train, log and save."""
    from bioplaus_cli.cards import keep, tell
    from bioplaus_cli.folders import note_folder
    from bioplaus_cli.judging import accounted, as_facts, show_bills
    from bioplaus_cli.shared import look_at
    from bridge.checkpoint import loading
    from bridge.progress import progress
    from nlhf.config import judge_origins
    from nlhf.language.records import ExactRecord

    config, card = run.config, _card(run)
    if group.rank == 0:
        tell([card], options)
    with (
        _session(run, group, path, options) as session,
        progress(config.iterations, config.algorithm, options["quiet"]) as bar,
        _watchers(config, group, path) as watchers,
    ):
        log, start = session.log, session.start
        if start is None:
            keep([card], log)
        with loading():
            exact = [ExactRecord(**each) for each in start["exact"]] if start else []
            tokens = start["record"]["num_tokens"] if start else 0
        note_folder(log, options["save"], options["overwrite"])
        _remark(run.policy.remark, log, silent=options["quiet"] or group.rank > 0)
        notes = _Notes(log, watchers, exact)
        began = time.perf_counter()
        with accounted(run.trainer.judge, log, judge_origins(config)) as account:
            last = _learned(run, group, session, notes, account, bar)
        seconds = time.perf_counter() - began
        _save(run, group, last, folder, replace, partial(note_folder, log, options["save"]))
        ends, bills = notes.at(last.step), account.bills(group)
        summary: dict[str, object] = {**vars(last), "seconds": seconds}
        summary |= _speeds(run.trainer.watch, last.num_tokens - tokens, seconds)
        summary |= {"exact": [vars(end) for end in ends], "policy": str(folder), **as_facts(bills)}
        log.event("summary", of=summary)
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        _show(last, ends, summary)
        show_bills(bills)
        click.echo(f"policy: {folder}\nlog: {path}\n{look_at(path)}")


def _session(
    run: LanguageRun, group: Group, path: Path, options: LanguageOptions
) -> AbstractContextManager[Session]:
    """Open the run's session."""
    from bioplaus_cli.shared import session_of

    return session_of(
        path,
        run.config,
        options,
        run.policy.device.type,
        steps=1,
        in_passing=lambda table, step: step % run.config.log_every == 0,
        tables=_tables(run),
        dataset=run.source,
        group=group,
        ranks=group.size > 1,
        processes=group.size,
    )


def _watchers(config: LanguageConfig, group: Group, path: Path) -> Watchers:
    """Start the services that the first process reports to."""
    from bridge.live import Watchers

    names = config.report_to if group.rank == 0 else ()
    return Watchers(names, path, config.model_dump(mode="json"))


def _learned(
    run: LanguageRun,
    group: Group,
    session: Session,
    notes: _Notes,
    account: Account,
    bar: Progress,
) -> LanguageRecord:
    """Train; give the last record."""
    from nlhf.training import train_language

    in_shards = group.size > 1 and run.config.shard == "fsdp"
    run.trainer.decoder.note = lambda text: session.log.event("program", text=text)

    def after(step: int, snapshot: Callable[[], Mapping[str, object]]) -> None:
        def whole() -> dict[str, object]:
            return {**snapshot(), "exact": [vars(each) for each in notes.exact]}

        if session.stopping:
            account.write()
        session.after_step(step, None if in_shards else whole)

    def advance(steps: int, record: LanguageRecord) -> None:
        account.note()
        bar.advance(steps, win=record.rewards_probabilities, kl=record.objective_kl)

    return train_language(
        run,
        on_record=notes.metrics,
        on_exact=notes.exactly,
        on_evaluation=notes.evaluation,
        advance=advance,
        start=session.start,
        after_step=after,
    )


class _Notes:
    """Writes records to the log, and passes them to the watchers.

    Attributes:
        exact: the exact measures of the last step that has any.
    """

    def __init__(self, log: RunLog, watchers: Watchers, exact: list[ExactRecord]) -> None:
        self._log, self._watchers, self.exact = log, watchers, exact

    def at(self, step: int) -> list[ExactRecord]:
        """Give the exact measures of the last step, if this is the one."""
        return [each for each in self.exact if each.step == step]

    def metrics(self, record: LanguageRecord) -> None:
        self._note("metrics", record)

    def evaluation(self, record: EvaluationRecord) -> None:
        self._note("evaluation", record)

    def exactly(self, record: ExactRecord) -> None:
        self._note("exact", record)
        # only the last ones are shown at the end
        self.exact = [*self.at(record.step), record]

    def _note(self, table: str, record: object) -> None:
        self._log.log(table, record)
        self._watchers.log(table, record)


def _tables(run: LanguageRun) -> dict[str, type]:
    """Give the record types of the log's tables."""
    from nlhf.language.records import EvaluationRecord, ExactRecord, LanguageRecord

    tables: dict[str, type] = {"metrics": LanguageRecord}
    tables |= {"exact": ExactRecord} if run.config.measure_exact else {}
    return tables | ({"evaluation": EvaluationRecord} if run.held_out else {})


def _card(run: LanguageRun) -> Card:
    """Describe the prompts."""
    from bridge.card import Card
    from nlhf.language.text_facts import prompt_facts

    facts = prompt_facts(run.trainer.prompts).read_as(run.account)
    return Card(run.config.prompts, facts.of, facts.warnings)


def _save(
    run: LanguageRun,
    group: Group,
    last: LanguageRecord,
    folder: Path,
    replace: bool,
    noted: Callable[[bool], None],
) -> None:
    """Write the policy into its folder; only the first process does."""
    from bioplaus_cli.folders import new_folder
    from nlhf.language.hub import push
    from nlhf.language.parallel import whole_weights
    from nlhf.language.saving import save_policy

    weights = whole_weights(run.policy)
    if group.rank == 0:
        with new_folder(folder, replace) as fresh:
            save_policy(run.policy, fresh, _about(run.config, last), weights)
            noted(True)
        if run.config.push_to_hub is not None:
            click.echo(f"pushed: {push(folder, run.config.push_to_hub)}", err=True)


def _remark(text: str | None, log: RunLog, silent: bool) -> None:
    """Log and print a remark about the policy."""
    if text is not None:
        log.event("remark", text=text)
        if not silent:
            click.echo(text, err=True)


def _speeds(watch: Stopwatch, tokens: int, seconds: float) -> dict[str, float]:
    """Sampled tokens per second, of the whole run and of decoding, and shares of the run's time."""
    decoding = watch.seconds["decoding"]
    return {
        "tokens_per_second": tokens / seconds,
        "decoding_tokens_per_second": tokens / decoding if decoding else math.nan,
        **watch.shares(seconds),
    }


def _show(last: LanguageRecord, ends: Sequence[ExactRecord], summary: Mapping[str, object]) -> None:
    """Print the last record, the exact measures of the same step, and the use of time."""
    shown = ["step", "rewards_probabilities", "reward", "objective_kl", "objective_entropy"]
    shown += ["completions_mean_length", "num_tokens"]
    speed = summary["tokens_per_second"]
    table([*shown, "tokens/s"], [[*(getattr(last, name) for name in shown), speed]])
    if ends:
        table(list(vars(ends[0])), [list(vars(each).values()) for each in ends])
    parts = (name for name in summary if name.endswith("_share"))
    shares = ", ".join(f"{name.removesuffix('_share')} {summary[name]:.0%}" for name in parts)
    click.echo(f"time: {shares}; {summary['decoding_tokens_per_second']:.0f} tokens/s of decoding")


def _about(config: LanguageConfig, last: LanguageRecord) -> dict[str, object]:
    names = ("model", "algorithm", "preference", "prompts", "tau", "mixture", "iterations", "seed")
    packed = {} if config.quantise is None else {"quantise": config.quantise}
    of = {name: getattr(config, name) for name in names}
    return {**of, **packed, "final_kl": last.objective_kl}
