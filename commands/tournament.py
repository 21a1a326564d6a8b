"""`tournament`: policies against one another, and which mixture of them nobody beats."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.console import (
    common_options,
    kept_in,
    print_json,
    resolve_device,
    set_threads,
    table,
)
from commands.cards import keep, tell
from commands.rank import print_context
from commands.shared import Spread, new_log

if TYPE_CHECKING:
    from bridge.card import Card


@click.command(cls=Spread)
@click.option(
    "--policies",
    multiple=True,
    required=True,
    metavar="NAME|DIR|FILE.jsonl...",
    help="Two or more: models, folders, or files of answers.",
)
@click.option("--prompts", metavar="FILE.jsonl", help="What they are asked.")
@click.option("--preference", metavar="DIR|module:function", help="Who judges the answers.")
@common_options("set", "json", "seed", "out", "overwrite", "device", "threads", "quiet")
def tournament(policies: tuple[str, ...], **options: Any) -> None:
    """Let policies answer the same prompts, and compare all pairs in both orders.

    Example: python cli.py tournament --policies tuned smollm2 docstrings/test.jsonl
    --prompts docstrings/test.jsonl --preference preference
    """
    from bridge import open_run
    from bridge.config import load_config
    from bridge.progress import progress
    from nlhf.config import TournamentConfig
    from nlhf.language.judging import get_judge
    from nlhf.language.prompts import read_prompts
    from nlhf.language.tournament import PairRecord, PolicyRecord, play

    given = {name: options[name] for name in ("prompts", "preference", "seed")}
    settings = load_config(
        TournamentConfig, None, {"policies": list(policies), **given}, options["sets"]
    )
    names = list(settings.policies)
    path = new_log("tournament", options)
    set_threads(options["threads"])
    device = resolve_device(options["device"])
    read = read_prompts(settings.prompts)
    prompts = read.kept[: settings.limit]
    judge = get_judge(settings.preference, device)
    card = _card(settings, prompts, read.left_out)
    tell([card], options)
    answers = _answers(settings, prompts, device, options["quiet"])
    total = len(prompts) * settings.draws * len(names) * (len(names) - 1) // 2
    with progress(total, "judging", options["quiet"]) as bar:
        result = play(judge, prompts, answers, advance=bar.advance, names=names, seed=settings.seed)
    # opened last: a refused policy or judge leaves nothing behind
    run = open_run(
        path,
        tables={"metrics": PairRecord, "policies": PolicyRecord},
        config=settings,
        seed=settings.seed,
        overwrite=options["overwrite"],
        command=sys.argv,
        dataset={"name": settings.prompts, "prompts": len(prompts), "policies": names},
    )
    with run:
        keep([card], run)
        for record in result.pairs:
            run.log("metrics", record)
        for record in result.policies:
            run.log("policies", record)
    kept_in(path)
    if options["as_json"]:
        print_json(_as_json(names, result, path))
    elif not options["quiet"]:
        _show(names, result)
        click.echo(f"log: {path}\nlook at it: python cli.py runs show {path}")


def _card(settings: Any, prompts: list[Any], left_out: tuple[str, ...]) -> Card:
    """What is asked, and what is known of the answers; before models have answered for hours.

    Raises:
        InputError: a file of answers cannot be read, or has none to a prompt.
    """
    from bridge.card import Card
    from nlhf.language.prompts import read_answers
    from nlhf.language.text_facts import tournament_facts
    from nlhf.language.tournament import answers_in

    files = {name: read_answers(name) for name in settings.policies if Path(name).is_file()}
    for name, known in files.items():
        answers_in(name, prompts, known)
    models = [name for name in settings.policies if name not in files]
    facts = tournament_facts(prompts, files, models, left_out)
    return Card(settings.prompts, facts.of, facts.warnings)


def _answers(settings: Any, prompts: list[Any], device: str, quiet: bool) -> list[list[list[str]]]:
    """The answers of all policies, [K][draws][N]."""
    from bridge.progress import progress
    from bridge.seeding import generator
    from nlhf.config import make_cut_sampling
    from nlhf.language.tournament import answers_of

    names = settings.policies
    with progress(len(prompts) * len(names), "answering", quiet) as bar:
        return [
            answers_of(
                name,
                prompts,
                make_cut_sampling(settings.generation),
                # the same numbers for every policy: luck is shared
                generator(settings.seed, "answers"),
                draws=settings.draws,
                batch_size=settings.batch_size,
                device=device,
                options={"chat": settings.chat, "end_token": settings.end_token},
                advance=bar.advance,
            )
            for name in names
        ]


def _as_json(names: list[str], result: Any, path: Path) -> dict[str, Any]:
    from nlhf.ranking.results import context_json

    pairs = [
        {**asdict(r), "policy": names[r.policy], "other": names[r.other]} for r in result.pairs
    ]
    policies = [
        {**asdict(r), "policy": names[r.policy], "beaten_by": names[r.beaten_by]}
        for r in result.policies
    ]
    return {
        "policies": policies,
        "pairs": pairs,
        "P": result.P.tolist(),
        "lottery_exploitability": result.lottery_exploitability,
        "ranking": context_json(result.ranking),
        "log": str(path),
    }


def _show(names: list[str], result: Any) -> None:
    cells = {
        (r.policy, r.other): f"{r.share:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in result.pairs
    }
    k = range(len(names))
    rows = [[names[i], *(cells.get((i, j), "-") for j in k)] for i in k]
    table(("wins of row against", *names), rows)
    best = [names[r.beaten_by] if r.beaten_by != r.policy else "" for r in result.policies]
    table(
        ("policy", "mean preference", "maximal lottery", "exploitability", "beaten by"),
        [
            [names[r.policy], r.mean, r.lottery, r.exploitability, beaten]
            for r, beaten in zip(result.policies, best, strict=True)
        ],
    )
    click.echo(f"exploitability of the lottery: {result.lottery_exploitability:.2g}")
    print_context(result.ranking)
