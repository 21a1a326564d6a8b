"""`nash-md --model`: a language model against a preference."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bridge.console import print_json, resolve_device, table

TABLE_ONLY = ("game", "plot")


def nash_language(**options: Any) -> None:
    """Train a language model; the body of `nash-md` where --model is given."""
    from commands.folders import choose_folder
    from commands.shared import prepare
    from nlhf.config import LanguageConfig
    from nlhf.language.parallel import join, leave
    from nlhf.training import build_language

    for name in TABLE_ONLY:
        if options[name] is not None:
            raise click.UsageError(f"--{name} is for tables; leave it out with --model")
    names = ("model", "prompts", "preference", "algorithm", "tau", "iterations", "seed")
    given = {name: options[name] for name in names}
    settings, path = prepare("nash-md", LanguageConfig, options["config"], given, options)
    folder, replace = choose_folder(options["save"], path, options)
    device = resolve_device(options["device"])
    group = join(device)
    try:
        for name in ("resume", "checkpoint_every"):
            if options[name] and group.size > 1:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for one process; leave it out under torchrun"
                )
        run = build_language(settings, device, group)
        if group.rank == 0:
            _train(run, path, folder, replace, options)
        else:
            _take_part(run)
    finally:
        leave()


def _take_part(run: Any) -> None:
    """Train as one of several processes, of which another writes."""
    from nlhf.language.parallel import whole_weights
    from nlhf.training import train_language

    train_language(run, on_record=lambda record: None)
    whole_weights(run.policy)


@contextmanager
def _session(
    run: Any, path: Path, options: dict[str, Any]
) -> Iterator[tuple[Any, Any, Callable[..., None]]]:
    """Give a log, where to start, and what to call after a step.

    Several processes make no checkpoints: each would need its own, and all would have to stop
    after the same step.
    """
    from bridge import open_run
    from commands.shared import session_of
    from nlhf.training import ExactRecord, LanguageRecord

    config = run.config
    tables: dict[str, type] = {"metrics": LanguageRecord}
    if config.measure_exact:
        tables["exact"] = ExactRecord
    if run.trainer.group.size > 1:
        with open_run(
            path,
            tables=tables,
            config=config,
            seed=config.seed,
            overwrite=options["overwrite"],
            command=sys.argv,
            dataset=run.source,
        ) as log:
            yield log, None, lambda step, snapshot: None
        return
    device = run.policy.device.type
    with session_of(path, config, options, device, tables=tables, dataset=run.source) as session:
        yield session.log, session.start, session.after_step


def _train(run: Any, path: Path, folder: Path, replace: bool, options: dict[str, Any]) -> None:
    """Train, log and save."""
    from bridge.progress import progress
    from commands.folders import new_folder, note_folder
    from nlhf.language.parallel import whole_weights
    from nlhf.language.saving import save_policy
    from nlhf.training import ExactRecord, train_language

    config = run.config
    with (
        _session(run, path, options) as (log, start, after_step),
        progress(config.iterations, config.algorithm, options["quiet"]) as bar,
    ):
        exact = [ExactRecord(**each) for each in start["exact"]] if start else []
        tokens = start["record"]["num_tokens"] if start else 0
        note_folder(log, options["save"], options["overwrite"])

        def on_exact(record: ExactRecord) -> None:
            log.log("exact", record)
            # only the last ones are shown at the end
            exact[:] = [each for each in exact if each.step == record.step] + [record]

        def after(step: int, snapshot: Callable[[], Any]) -> None:
            after_step(step, lambda: {**snapshot(), "exact": [vars(each) for each in exact]})

        began = time.perf_counter()
        last = train_language(
            run,
            on_record=lambda record: log.log("metrics", record),
            on_exact=on_exact,
            advance=lambda n, r: bar.advance(n, win=r.rewards_probabilities, kl=r.objective_kl),
            start=start,
            after_step=after,
        )
        seconds = time.perf_counter() - began
        weights = whole_weights(run.policy)
        with new_folder(folder, replace) as fresh:
            save_policy(run.policy, fresh, _about(config, last), weights)
            note_folder(log, options["save"], replace=True)
        speed = (last.num_tokens - tokens) / seconds
        ends = [vars(each) for each in exact if each.step == last.step]
        said = {**vars(last), "seconds": seconds, "tokens_per_second": speed, "exact": ends}
        said["policy"] = str(folder)
        log.event("summary", of=said)
    if options["as_json"]:
        print_json({**said, "log": str(path)})
    elif not options["quiet"]:
        shown = ["step", "rewards_probabilities", "reward", "objective_kl", "objective_entropy"]
        shown += ["completions_mean_length", "num_tokens"]
        table([*shown, "tokens/s"], [[*(getattr(last, name) for name in shown), speed]])
        if ends:
            table(list(ends[0]), [list(each.values()) for each in ends])
        click.echo(f"policy: {folder}\nlog: {path}\nlook at it: python cli.py runs show {path}")


def _about(config: Any, last: Any) -> dict[str, Any]:
    names = ("model", "algorithm", "preference", "prompts", "tau", "mixture", "iterations", "seed")
    return {name: getattr(config, name) for name in names} | {"final_kl": last.objective_kl}
