"""`rank`: turn battles into scores, the maximal lottery, and what the battles decide."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import click

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.options import Options, picked
from bioplaus_cli.shared import look_at, new_log
from bridge.console import common_options, print_json, resolve_device, set_threads, table
from bridge.invocation import command_words

if TYPE_CHECKING:
    from bridge.card import Card
    from nlhf.preferences.reading.layouts import Values
    from nlhf.ranking.bradley_terry import Ties
    from nlhf.ranking.results import ContextRanking, Ranking


class RankOptions(Options):
    """The options of `rank`."""

    cluster: str | None
    bootstrap: int
    ties: Ties
    smoothing: float
    intervals: Literal["bootstrap", "sandwich"]
    values: Values | None
    each: float | None
    elo: bool


_LONG, _SHORT = 20.0, 3.0
"""Expected seconds from which a ranking is announced; shorter ones show no progress."""


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--by", metavar="COLUMN,...", help="Columns whose values define the contexts.")
@click.option(
    "--cluster",
    metavar="COLUMN",
    help="Column whose values define clusters, which are resampled as a whole.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Number of resamples.",
)
@click.option(
    "--ties",
    type=click.Choice(["half", "davidson", "rao-kupper"]),
    default="half",
    show_default=True,
    help="How the Bradley-Terry model treats ties.",
)
@click.option(
    "--smoothing", type=float, default=0.0, help="Pseudo-votes for each side of a compared pair."
)
@click.option(
    "--intervals",
    type=click.Choice(["bootstrap", "sandwich"]),
    default="bootstrap",
    show_default=True,
    help="Method for the intervals of scores.",
)
@click.option(
    "--values",
    type=click.Choice(["counts", "rates", "percent"]),
    help="Content of a square table, if it is ambiguous.",
)
@click.option(
    "--each", type=float, metavar="N", help="Number of battles per pair in a table of rates."
)
@click.option("--elo", is_flag=True, help="Also compute Elo ratings, in the order of the battles.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="OUT.html", help="Write a report page."
)
@common_options()
def rank(file: str, by: str | None, report: Path | None, **options: Unpack[RankOptions]) -> None:
    """Rank items by battles: Bradley-Terry scores and the maximal lottery, with 95 % intervals.

    FILE holds battles (model_a,model_b,winner), winner,loser, tallies (item_a,item_b,wins_a,
    wins_b), a square table of counts, rates or percentages, or PrefLib ballots; as CSV,
    tab-separated text, JSON, JSON lines or Parquet. Shipped votes are given by name: sound-quality.

    \b
    Examples:
      python cli.py rank battles.csv --by language --cluster user_id --report ranking.html
      python cli.py rank sound-quality
    """
    from bioplaus_cli.headlines import RESAMPLED, headline_for
    from bridge import open_run
    from bridge.card import Card
    from nlhf.ranking.card import card_facts
    from nlhf.ranking.records import TABLES, names, records, without_pairs

    if report is not None:
        from bridge.runlog.output import check_new_file

        if report.suffix.lower() not in (".html", ".htm"):
            raise click.UsageError(f"--report {report}: the name must end in .html")
        check_new_file("--report", report, options["overwrite"])
    path = new_log("rank", options)
    set_threads(options["threads"])
    resolve_device(options["device"])
    seed = options["seed"] or 0
    columns = [name.strip() for name in (by or "").split(",") if name.strip()]
    given = ("cluster", "bootstrap", "ties", "smoothing", "intervals", "values", "each", "elo")
    config = {"file": file, "by": columns, **picked(options, given), "seed": seed}
    ranking = _ranked(file, columns, options, seed)
    facts = ranking.card
    cards = [Card(facts["name"], card_facts(facts), facts["notes"])]
    tell(cards, options)
    run = open_run(
        path,
        tables=TABLES,
        config=config,
        seed=seed,
        overwrite=options["overwrite"],
        command=command_words(),
        dataset={**facts, **names(ranking)},
        headline=headline_for("rank", TABLES, () if options["bootstrap"] else RESAMPLED),
    )
    summary = ranking.to_json()
    with run:
        keep(cards, run)
        for name, record in records(ranking):
            run.log(name, record)
        run.event("summary", of=without_pairs(summary))
    if report is not None:
        _write_report(report, ranking, cards[0], options["overwrite"])
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        _show(ranking)
        click.echo(f"log: {path}\n{look_at(path)}")
        if report is not None:
            click.echo(f"report: {report}")


def _ranked(file: str, by: list[str], options: RankOptions, seed: int) -> Ranking:
    """Rank, and announce the expected time if it is long."""
    import nlhf
    from bridge.progress import progress
    from nlhf.preferences.reading import read_battles
    from nlhf.ranking.plan import plan
    from nlhf.ranking.settings import Settings, check

    bootstrap, quiet = options["bootstrap"], options["quiet"]
    settings = Settings(
        bootstrap,
        options["ties"],
        options["smoothing"],
        options["intervals"],
        options["elo"],
        seed,
    )
    check(settings)
    battles = read_battles(file, options["values"])
    parts = plan(battles, by)
    seconds = parts.seconds(bootstrap) if battles.shares is None else 0.0
    if seconds >= _LONG and not quiet:
        tables = "one table" if len(parts.names) == 1 else f"{len(parts.names)} tables"
        largest = max(items for items, _ in parts.sizes)
        click.echo(
            f"rank: {bootstrap:,} resamples of {tables} of up to {largest:,} items take about "
            f"{_rounded(seconds)}; a smaller --bootstrap takes less",
            err=True,
        )
    with progress(parts.work(bootstrap), "resampling", quiet or seconds < _SHORT) as bar:
        return nlhf.rank(
            battles,
            by=by,
            cluster=options["cluster"],
            each=options["each"],
            advance=bar.advance,
            **asdict(settings),
        )


def _rounded(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    return f"{seconds / 60:.0f} minutes"


def _write_report(path: Path, ranking: Ranking, card: Card, overwrite: bool) -> None:
    from bioplaus_cli.ranking_view import view_of
    from bridge.report.html import write_page
    from bridge.report.ranking import ranking_page

    views = [view_of(context) for context in ranking.contexts]
    title = f"Ranking of {Path(card.source).name}"
    write_page(path, ranking_page(title, card, views, command_words()), overwrite)


def _show(ranking: Ranking) -> None:
    from nlhf.ranking.words import short

    for number, context in enumerate(ranking.contexts):
        if number:
            click.echo()
        print_context(context)
    if ranking.robust is not None:
        robust = ranking.robust
        weights = sorted(zip(robust.lottery.tolist(), robust.items, strict=True), reverse=True)
        shown = ", ".join(f"{short(name)} {p:.3f}" for p, name in weights[:8] if p >= 0.0005)
        click.echo(
            f"\nrobust over contexts: {shown}; in its worst context some item is preferred to it "
            f"with {0.5 - robust.value:.3f}"
        )


def print_context(context: ContextRanking) -> None:
    """Print the verdict on a context, its table, and what is decided, in words."""
    from nlhf.ranking.words import in_words, verdict_line

    click.echo(verdict_line(context))
    table(*_columns(context, _width()))
    click.echo(click.wrap_text(" ".join(in_words(context)), min(_width(), 100)))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100


def _columns(context: ContextRanking, width: int) -> tuple[list[str], list[list[str]]]:
    """Choose the columns that fit on the terminal, the most important first."""
    from nlhf.ranking.words import short

    longest = max(len(short(item.name)) for item in context.items)
    every = {
        "rank": lambda i: f"{i.rank_low}-{i.rank_high}",
        "item": lambda i: short(i.name),
        "score [95 %]": lambda i: _interval(i.bradley_terry, i.low, i.high, "+.2f"),
        "lottery [95 %]": lambda i: _interval(i.lottery, i.lottery_low, i.lottery_high, ".2f"),
        "in support": lambda i: _share(i.in_support),
        "first": lambda i: _share(i.first),
        "battles": lambda i: "" if i.battles != i.battles else f"{i.battles:,.10g}",
    }
    if any(item.elo == item.elo for item in context.items):
        every["Elo"] = lambda i: f"{i.elo:.0f}"
    # the width of each, with the space next to it
    room = {"rank": 7, "item": longest + 2, "score [95 %]": 24, "lottery [95 %]": 22}
    room |= {"in support": 12, "first": 8, "battles": 11, "Elo": 6}
    names, used = [], 0
    for name in every:
        used += room[name]
        if used <= width or len(names) < 3:
            names.append(name)
    return names, [[every[name](item) for name in names] for item in context.items]


def _interval(value: float, low: float, high: float, form: str) -> str:
    if value != value:
        return "unknown"
    if low != low:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _share(value: float) -> str:
    return "" if value != value else f"{value:.3f}"
