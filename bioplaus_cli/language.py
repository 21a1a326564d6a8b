"""`nash-md --model`: train a language model against a preference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.console import print_json, resolve_device, table

if TYPE_CHECKING:
    from bridge.card import Card

TABLE_ONLY = ("game", "plot")


def nash_language(**options: Any) -> None:
    """Train a language model; the body of `nash-md` if --model is given."""
    from bioplaus_cli.folders import choose_folder
    from bioplaus_cli.printing import print_config
    from bioplaus_cli.shared import prepare
    from bioplaus_cli.sweeps import LOG_AND_MODEL, sweep
    from bridge.distributed import joined
    from nlhf.config import LanguageConfig
    from nlhf.language.hub import check_repository
    from nlhf.training import build_language

    for name in TABLE_ONLY:
        if options[name] is not None:
            raise click.UsageError(f"--{name} is for tables; leave it out with --model")
    names = ("model", "prompts", "preference", "max_calls", "algorithm", "tau", "iterations")
    given = {name: options[name] for name in (*names, "seed")}
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
            with group.telling() as told:
                folder, replace = choose_folder(options["save"], path, options)
                told |= {"folder": str(folder), "replace": replace}
        else:
            told = group.hear()
            folder, replace = Path(told["folder"]), told["replace"]
        if settings.push_to_hub is not None:
            check_repository(settings.push_to_hub)
        _train(build_language(settings, device, group), path, folder, replace, options)


def _train(run: Any, path: Path, folder: Path, replace: bool, options: dict[str, Any]) -> None:
    """Train, log and save."""
    from bioplaus_cli.cards import keep, tell
    from bioplaus_cli.folders import note_folder
    from bioplaus_cli.judging import accounted
    from bioplaus_cli.shared import session_of
    from bridge.checkpoint import loading
    from bridge.live import Watchers
    from bridge.progress import progress
    from nlhf.config import judge_origins
    from nlhf.language.records import ExactRecord, LanguageRecord
    from nlhf.training import train_language

    config, group = run.config, run.trainer.group
    card = _card(run)
    if group.rank == 0:
        tell([card], options)
    with (
        session_of(
            path,
            config,
            options,
            run.policy.device.type,
            steps=1,
            in_passing=lambda table, step: step % config.log_every == 0,
            tables=_tables(run),
            dataset=run.source,
            group=group,
            ranks=group.size > 1,
            processes=group.size,
        ) as session,
        progress(config.iterations, config.algorithm, options["quiet"]) as bar,
        Watchers(
            config.report_to if group.rank == 0 else (), path, config.model_dump(mode="json")
        ) as watchers,
    ):
        log, start = session.log, session.start
        if start is None:
            keep([card], log)
        in_shards = group.size > 1 and config.shard == "fsdp"
        with loading():
            exact = [ExactRecord(**each) for each in start["exact"]] if start else []
            tokens = start["record"]["num_tokens"] if start else 0
        note_folder(log, options["save"], options["overwrite"])
        _remark(run.policy.remark, log, silent=options["quiet"] or group.rank > 0)

        notes = _Notes(log, watchers, exact)
        run.trainer.decoder.note = lambda text: log.event("program", text=text)

        def after(step: int, snapshot: Callable[[], Any]) -> None:
            def whole() -> dict[str, Any]:
                return {**snapshot(), "exact": [vars(each) for each in exact]}

            if session.stopping:
                account.write()
            session.after_step(step, None if in_shards else whole)

        began = time.perf_counter()
        with accounted(run.trainer.judge, log, judge_origins(config)) as account:

            def advance(steps: int, record: LanguageRecord) -> None:
                account.note()
                bar.advance(steps, win=record.rewards_probabilities, kl=record.objective_kl)

            last = train_language(
                run,
                on_record=notes.metrics,
                on_exact=notes.exactly,
                on_evaluation=notes.evaluation,
                advance=advance,
                start=start,
                after_step=after,
            )
        seconds = time.perf_counter() - began
        _save(run, last, folder, replace, lambda: note_folder(log, options["save"], replace=True))
        said = {**vars(last), "seconds": seconds}
        said |= _speeds(run.trainer.watch, last.num_tokens - tokens, seconds)
        said["exact"] = [vars(each) for each in exact if each.step == last.step]
        said |= {"policy": str(folder), **account.bill(group)}
        log.event("summary", of=said)
    _tell(last, said, path, options)


class _Notes:
    """Writes records to the log, and passes them to the watchers."""

    def __init__(self, log: Any, watchers: Any, exact: list[Any]) -> None:
        self._log, self._watchers, self._exact = log, watchers, exact

    def metrics(self, record: Any) -> None:
        self._note("metrics", record)

    def evaluation(self, record: Any) -> None:
        self._note("evaluation", record)

    def exactly(self, record: Any) -> None:
        self._note("exact", record)
        # only the last ones are shown at the end
        self._exact[:] = [each for each in self._exact if each.step == record.step] + [record]

    def _note(self, table: str, record: Any) -> None:
        self._log.log(table, record)
        self._watchers.log(table, record)


def _tables(run: Any) -> dict[str, Any]:
    """Give the record types of the log's tables."""
    from nlhf.language.records import EvaluationRecord, ExactRecord, LanguageRecord

    tables: dict[str, Any] = {"metrics": LanguageRecord}
    tables |= {"exact": ExactRecord} if run.config.measure_exact else {}
    return tables | ({"evaluation": EvaluationRecord} if run.held_out else {})


def _card(run: Any) -> Card:
    """Describe the prompts."""
    from bridge.card import Card
    from nlhf.language.text_facts import prompt_facts

    facts = prompt_facts(run.trainer.prompts).read_as(run.account)
    return Card(run.config.prompts, facts.of, facts.warnings)


def _tell(last: Any, said: dict[str, Any], path: Path, options: dict[str, Any]) -> None:
    """Print the result."""
    from bioplaus_cli.judging import show_bill
    from bioplaus_cli.shared import look_at

    if options["as_json"]:
        print_json({**said, "log": str(path)})
    elif not options["quiet"]:
        _show(last, said)
        show_bill(said)
        folder = said["policy"]
        click.echo(f"policy: {folder}\nlog: {path}\n{look_at(path)}")


def _save(run: Any, last: Any, folder: Path, replace: bool, noted: Callable[[], None]) -> None:
    """Write the policy into its folder; only the first process does."""
    from bioplaus_cli.folders import new_folder
    from nlhf.language.hub import push
    from nlhf.language.parallel import whole_weights
    from nlhf.language.saving import save_policy

    weights = whole_weights(run.policy)
    if run.trainer.group.rank == 0:
        with new_folder(folder, replace) as fresh:
            save_policy(run.policy, fresh, _about(run.config, last), weights)
            noted()
        if run.config.push_to_hub is not None:
            click.echo(f"pushed: {push(folder, run.config.push_to_hub)}", err=True)


def _remark(text: str | None, log: Any, silent: bool) -> None:
    """Log and print a remark about the policy."""
    if text is not None:
        log.event("remark", text=text)
        if not silent:
            click.echo(text, err=True)


def _speeds(watch: Any, tokens: int, seconds: float) -> dict[str, float]:
    """Sampled tokens per second, of the whole run and of decoding, and shares of the run's time."""
    decoding = watch.seconds["decoding"]
    return {
        "tokens_per_second": tokens / seconds,
        "decoding_tokens_per_second": tokens / decoding if decoding else math.nan,
        **watch.shares(seconds),
    }


def _show(last: Any, said: dict[str, Any]) -> None:
    """Print the last record, the exact measures of the same step, and the use of time."""
    shown = ["step", "rewards_probabilities", "reward", "objective_kl", "objective_entropy"]
    shown += ["completions_mean_length", "num_tokens"]
    speed = said["tokens_per_second"]
    table([*shown, "tokens/s"], [[*(getattr(last, name) for name in shown), speed]])
    if ends := said["exact"]:
        table(list(ends[0]), [list(each.values()) for each in ends])
    parts = (name for name in said if name.endswith("_share"))
    shares = ", ".join(f"{name.removesuffix('_share')} {said[name]:.0%}" for name in parts)
    click.echo(f"time: {shares}; {said['decoding_tokens_per_second']:.0f} tokens/s of decoding")


def _about(config: Any, last: Any) -> dict[str, Any]:
    names = ("model", "algorithm", "preference", "prompts", "tau", "mixture", "iterations", "seed")
    return {name: getattr(config, name) for name in names} | {"final_kl": last.objective_kl}
