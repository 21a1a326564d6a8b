"""`nash-md --model`: a language model against a preference."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from bridge.console import print_json, resolve_device, set_threads, table

TABLE_ONLY = ("game", "plot")


def nash_language(**options: Any) -> None:
    """Train a language model; the body of `nash-md` where --model is given."""
    from bridge.config import load_config
    from commands.folders import check_new_folder
    from commands.shared import new_log
    from nlhf.config import LanguageConfig
    from nlhf.language.parallel import join, leave
    from nlhf.training import build_language

    for name in TABLE_ONLY:
        if options[name] is not None:
            raise click.UsageError(f"--{name} is for tables; leave it out with --model")
    names = ("model", "prompts", "preference", "algorithm", "tau", "iterations", "seed")
    given = {name: options[name] for name in names}
    settings = load_config(LanguageConfig, options["config"], given, options["sets"])
    path = new_log("nash-md", options)
    folder = options["save"] or path.with_suffix("")
    check_new_folder(folder, options["overwrite"])
    device = resolve_device(options["device"])
    set_threads(options["threads"])
    group = join(device)
    try:
        run = build_language(settings, device, group)
        _train(run, path, folder, group.rank == 0, options)
    finally:
        leave()


def _train(run: Any, path: Path, folder: Path, first: bool, options: dict[str, Any]) -> None:
    """Train, log and save; of several processes only the first writes."""
    from bridge import open_run
    from bridge.progress import progress
    from commands.folders import new_folder
    from nlhf.language.parallel import whole_weights
    from nlhf.language.saving import save_policy
    from nlhf.training import ExactRecord, LanguageRecord, train_language

    config = run.config
    exact: list[Any] = []
    if not first:
        train_language(run, on_record=lambda record: None)
        whole_weights(run.policy)
        return
    tables: dict[str, type] = {"metrics": LanguageRecord}
    if config.measure_exact:
        tables["exact"] = ExactRecord
    log = open_run(
        path,
        tables=tables,
        config=config,
        seed=config.seed,
        overwrite=options["overwrite"],
        command=sys.argv,
        dataset=run.source,
    )
    began = time.perf_counter()
    with log, progress(config.iterations, config.algorithm, options["quiet"]) as bar:

        def on_exact(record: ExactRecord) -> None:
            log.log("exact", record)
            exact.append(record)

        last = train_language(
            run,
            on_record=lambda record: log.log("metrics", record),
            on_exact=on_exact,
            advance=lambda n, r: bar.advance(n, win=r.rewards_probabilities, kl=r.objective_kl),
        )
        seconds = time.perf_counter() - began
        weights = whole_weights(run.policy)
        with new_folder(folder, options["overwrite"]) as fresh:
            save_policy(run.policy, fresh, _about(config, last), weights)
    speed = last.num_tokens / seconds
    ends = [vars(each) for each in exact if each.step == last.step]
    if options["as_json"]:
        said = {**vars(last), "seconds": seconds, "tokens_per_second": speed, "exact": ends}
        print_json({**said, "policy": str(folder), "log": str(path)})
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
