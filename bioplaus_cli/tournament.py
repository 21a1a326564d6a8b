"""`tournament`: compare policies with each other, and find an unbeaten mixture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.contest import Contest
from bioplaus_cli.judging import (
    MAX_CALLS_HELP,
    PREFERENCE,
    PREFERENCE_HELP,
    accounted,
    as_facts,
    show_bills,
)
from bioplaus_cli.options import TrainingOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.rank import print_context
from bioplaus_cli.shared import Spread, look_at, prepare, session_of
from bridge.console import (
    common_options,
    print_json,
    resolve_device,
    table,
)

if TYPE_CHECKING:
    from bridge.card import Card
    from nlhf.config import TournamentConfig
    from nlhf.language.judging import AbstractJudge
    from nlhf.language.prompts import Prompt
    from nlhf.language.reading import Account
    from nlhf.language.tournament import Tournament


class TournamentOptions(TrainingOptions):
    """The options of `tournament`."""

    prompts: str | None
    preference: str | None
    max_calls: int | None


@click.command(cls=Spread)
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option(
    "--policies",
    multiple=True,
    metavar="NAME|DIR|FILE.jsonl...",
    help="Two or more policies: models, folders, or files of answers.",
)
@click.option("--prompts", metavar="FILE.jsonl", help="Prompts for the policies.")
@click.option("--preference", metavar=PREFERENCE, help=f"{PREFERENCE_HELP}.")
@click.option("--max-calls", type=click.IntRange(min=1), metavar="N", help=MAX_CALLS_HELP)
@common_options("set", "print-config", "resume", "checkpoint-every", "deterministic")
@common_options("json", "seed", "out", "overwrite", "device", "threads", "quiet")
def tournament(
    config: Path | None, policies: tuple[str, ...], **options: Unpack[TournamentOptions]
) -> None:
    """Let policies answer the same prompts, and compare all pairs in both orders.

    Example: python cli.py tournament --policies tuned smollm2 docstrings/test.jsonl
    --prompts docstrings/test.jsonl --preference preference
    """
    from nlhf.config import TournamentConfig, judge_origins, make_judge
    from nlhf.language.reading import digest, read_prompts
    from nlhf.language.tournament import PairRecord, PolicyRecord

    given = picked(options, ("prompts", "preference", "max_calls", "seed"))
    flags = {"policies": list(policies) or None, **given}
    print_config(TournamentConfig, config, flags, options)
    settings, path = prepare("tournament", TournamentConfig, config, flags, options)
    names = list(settings.policies)
    device = resolve_device(options["device"])
    read = read_prompts(settings.prompts, settings.on_bad_lines)
    prompts = read.kept[: settings.limit]
    judge = make_judge(settings, device)
    card, files = _card(settings, prompts, read.account)
    tell([card], options)
    digests = {name: digest(name) for name in (settings.prompts, *files)}
    dataset = {"name": settings.prompts, "prompts": len(prompts), "policies": names}
    if not (options["resume"] and path.exists()):
        _try(settings, prompts, files, judge, device)
    with session_of(
        path,
        settings,
        options,
        device,
        tables={"metrics": PairRecord, "policies": PolicyRecord},
        dataset={**dataset, "sha256": digests},
    ) as session:
        log = session.log
        if session.start is None:
            keep([card], log)
        contest = Contest(settings, prompts, session, device)
        contest.answer(options["quiet"])
        with accounted(judge, log, judge_origins(settings)) as account:
            result = contest.judge(judge, options["quiet"], account)
        for record in result.pairs:
            log.log("metrics", record)
        for record in result.policies:
            log.log("policies", record)
        bills = account.bills()
        summary = {**_as_json(names, result), **as_facts(bills)}
        log.event("summary", of=summary)
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        _show(names, result)
        show_bills(bills)
        click.echo(f"log: {path}\n{look_at(path)}")


def _try(
    settings: TournamentConfig,
    prompts: Sequence[Prompt],
    files: Mapping[str, list[str]],
    judge: AbstractJudge,
    device: str,
) -> None:
    """Load each model once, and ask the judge once, so that a refusal leaves nothing behind.

    Raises:
        InputError: a model or the judge is refused.
    """
    from nlhf.language.loading import load_policy

    for name in settings.policies:
        if name not in files:
            options = {
                "chat": settings.chat,
                "end_token": settings.end_token,
                "shortest": settings.generation.min_new_tokens,
            }
            policy = load_policy(name, device=device, reference=False, **options)
            policy.check_room(prompts, settings.generation.max_new_tokens, name)
    if len(files) > 1:
        first, second = ([answers[0]] for answers in list(files.values())[:2])
        judge(prompts[:1], first, second)
        judge(prompts[:1], second, first)


def _card(
    settings: TournamentConfig, prompts: Sequence[Prompt], account: Account
) -> tuple[Card, dict[str, list[str]]]:
    """Describe the prompts and the answers known so far, before hours of answering; read files.

    Raises:
        InputError: a file of answers cannot be read, or lacks an answer to a prompt.
    """
    from bridge.card import Card
    from nlhf.language.reading import read_answers
    from nlhf.language.text_facts import tournament_facts
    from nlhf.language.tournament import answers_in

    files = {name: read_answers(name) for name in settings.policies if Path(name).is_file()}
    picked = {name: answers_in(name, prompts, known) for name, known in files.items()}
    models = [name for name in settings.policies if name not in files]
    facts = tournament_facts(prompts, files, models).read_as(account)
    return Card(settings.prompts, facts.of, facts.warnings), picked


def _as_json(names: list[str], result: Tournament) -> dict[str, object]:
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
    }


def _show(names: list[str], result: Tournament) -> None:
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
    click.echo(f"exploitability of the lottery: {result.lottery_exploitability:.2g}\n")
    print_context(result.ranking)
