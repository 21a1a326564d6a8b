"""`nash-md`: find the equilibrium of a preference game, tabular or with a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.cards import keep, tell
from bioplaus_cli.completing import algorithms, games, one_of
from bioplaus_cli.judging import MAX_CALLS_HELP, PREFERENCE, PREFERENCE_HELP
from bioplaus_cli.language import LanguageOptions
from bioplaus_cli.options import picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.rank import print_context
from bioplaus_cli.shared import logged, look_at, prepare, session_of
from bioplaus_cli.sweeps import sweep
from bridge.console import SWEEPING, common_options, print_json, resolve_device, table
from bridge.invocation import program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bridge.card import Card
    from nlhf.config import NashConfig
    from nlhf.outcome import ContextResult
    from nlhf.ranking.results import Ranking
    from nlhf.training import TableRun

    Course = list[tuple[int, NDArray[np.float64]]]


class NashOptions(LanguageOptions):
    """The options of `nash-md`."""

    bootstrap: int | None


@click.command("nash-md")
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option(
    "--game",
    shell_complete=one_of(games),
    help="sound-quality, roshambo, a built-in game, or a CSV file.",
)
@click.option("--model", help="A causal language model: folder, hub name, smollm2, tiny:WORD,...")
@click.option("--prompts", metavar="FILE.jsonl", help='Lines {"prompt": ...}; with --model.')
@click.option("--preference", metavar=PREFERENCE, help=f"{PREFERENCE_HELP}; with --model.")
@click.option("--max-calls", type=click.IntRange(min=1), metavar="N", help=MAX_CALLS_HELP)
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the trained model; by default next to the log.",
)
@click.option(
    "--algorithm",
    shell_complete=one_of(algorithms),
    help="nash-md, self-play, mirror-prox, ..., or exact.",
)
@click.option("--tau", type=float, help="Weight of the KL to the reference policy.")
@click.option("--iterations", type=int, help="Steps of the algorithm.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Plot the policies."
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=1),
    metavar="N",
    help="Resample the votes N times, to show what they decide.",
)
@common_options("set", "print-config", "resume", "reschedule", "checkpoint-every")
@common_options("deterministic", *SWEEPING)
@common_options()
def nash_md(**options: Unpack[NashOptions]) -> None:
    """Find the policy that no other policy is preferred to, with a certificate.

    With --model, fine-tune a language model so that no other policy's answers are preferred to its
    own.

    \b
    Examples:
      python cli.py nash-md --game biased-rock-paper-scissors --tau 0.05 --plot policies.png
      python cli.py nash-md --seeds 0..9 --sweep algorithm=nash-md,self-play --out runs/nash
    """
    if _is_of_model(options):
        if options["bootstrap"]:
            raise click.UsageError("--bootstrap resamples a table's votes; leave it out")
        from bioplaus_cli.language import nash_language

        nash_language(options)
        return
    for name, value in picked(options, ("prompts", "preference", "max_calls", "save")).items():
        if value is not None:
            raise click.UsageError(_needs_model(name, value))
    _nash_table(options)


def _nash_table(options: NashOptions) -> None:
    """Find the equilibrium of a table; the body of `nash-md` without --model."""
    from bridge.report.policies import check_picture
    from nlhf.config import NashConfig
    from nlhf.training import build_tables

    plot, bootstrap = options["plot"], options["bootstrap"]
    if plot:
        if options["resume"]:
            raise click.UsageError("--plot draws the whole course, which --resume does not run")
        check_picture(plot, options["overwrite"])
    flags = picked(options, ("game", "algorithm", "tau", "iterations", "seed"))
    if bootstrap and (options["seeds"] or options["sweeps"]):
        raise click.UsageError("--bootstrap is for one run; leave out --seeds and --sweep")
    print_config(NashConfig, options["config"], flags, options)
    if sweep(NashConfig, options["config"], flags, options):
        return
    settings, path = prepare("nash-md", NashConfig, options["config"], flags, options)
    device = resolve_device(options["device"])
    _require_votes(settings, bootstrap)
    run = build_tables(settings, device)
    card = _card(run)
    tell([card], options)
    ranking = _ranking(settings, bootstrap) if bootstrap else None
    results, course, summary = _trained(run, path, device, card, ranking, options)
    if plot:
        _draw(plot, run, results, course)
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        _print_equilibria(settings.algorithm, results, run.preferences.never_compared)
        for context in () if ranking is None else ranking.contexts:
            click.echo()
            print_context(context)
        click.echo(f"log: {path}\n{look_at(path)}")


def _card(run: TableRun) -> Card:
    """Describe the game, and how its votes were read."""
    from bridge.card import Card
    from nlhf.ranking.card import game_facts

    notes = () if run.battles is None else run.battles.notes
    return Card(run.preferences.name, game_facts(run.preferences, run.battles), notes)


def _trained(
    run: TableRun,
    path: Path,
    device: str,
    card: Card,
    ranking: Ranking | None,
    options: NashOptions,
) -> tuple[list[ContextResult], Course, dict[str, object]]:
    """Train and log; give the results, the policies by step, and the summary."""
    from bridge.progress import progress
    from nlhf.training import StepRecord, train_tables

    settings, course = run.config, []
    with (
        session_of(
            path,
            settings,
            options,
            device,
            steps=1,
            in_passing=lambda table, step: step == 1 or step % settings.log_every == 0,
            tables={"metrics": StepRecord},
            dataset=run.source,
        ) as session,
        progress(settings.iterations, settings.algorithm, options["quiet"]) as bar,
    ):
        log = session.log
        if session.start is None:
            keep([card], log)
        results = train_tables(
            run,
            on_record=lambda record: log.log("metrics", record),
            on_policy=lambda step, policy: course.append((step, policy.cpu().numpy())),
            advance=bar.advance,
            start=session.start,
            after_step=session.after_step,
        )
        summary: dict[str, object] = {"converged": all(result.converged for result in results)}
        summary["contexts"] = [vars(result) for result in results]
        if ranking is not None:
            summary["ranking"] = ranking.to_json()["contexts"]
        log.event("summary", of=summary)
    return results, course, summary


def _draw(plot: Path, run: TableRun, results: Sequence[ContextResult], course: Course) -> None:
    """Plot the policies of all contexts over the steps."""
    import numpy as np

    from bridge.report.policies import plot_policies

    steps, policies = zip(*course, strict=True)
    oracle = run.log_equilibrium.exp().cpu().numpy()
    titles = [r.context if r.converged else f"{r.context}: NOT CONVERGED" for r in results]
    plot_policies(plot, titles, run.preferences.actions, steps, np.stack(policies), oracle)


def _require_votes(settings: NashConfig, bootstrap: int | None) -> None:
    """Refuse to resample the votes of a game without votes.

    Raises:
        InputError: the game has no votes.
    """
    from nlhf.errors import InputError
    from nlhf.games import GAMES

    if bootstrap and settings.game in GAMES:
        raise InputError(f"game={settings.game!r} has no votes to resample; leave --bootstrap out")


def _ranking(settings: NashConfig, bootstrap: int) -> Ranking:
    """Find what the votes of a game decide."""
    import nlhf

    return nlhf.rank(
        settings.game, bootstrap=bootstrap, smoothing=settings.smoothing, seed=settings.seed
    )


def _is_of_model(options: NashOptions) -> bool:
    """Whether a language model is trained: by --model, the config, or the log to continue."""
    if options["model"]:
        return True
    found = logged(options["out"]) if options["resume"] else None
    if found is not None:
        return "model" in found.config
    if options["config"] is None:
        return False
    from bridge.config import keys_in
    from nlhf.config import LanguageConfig, NashConfig

    # mistakes in the file are reported when it is read as a config
    keys = keys_in(options["config"])
    tables, models = NashConfig.model_fields.keys(), LanguageConfig.model_fields.keys()
    return len(keys & (models - tables)) > len(keys & (tables - models))


def _needs_model(name: str, value: object) -> str:
    if name == "preference" and Path(str(value)).is_file():
        return (
            f"--preference {value}: comparisons are no judge yet; run `{program()} "
            f"preference-train --pairs {value} --out DIR` first, then give --preference DIR with "
            "--model"
        )
    return f"--{name.replace('_', '-')} is for language models; give --model too"


def _print_equilibria(
    algorithm: str,
    results: Sequence[ContextResult],
    never_compared: Sequence[tuple[str, str, str]],
) -> None:
    from nlhf.regularised_game import CONVERGED

    for result in results:
        click.echo(f"{result.context}: {_shown(result.actions, result.policy)} ({algorithm})")
        oracle, plain = "not found in double precision", "not found"
        if result.equilibrium is not None:
            oracle = _shown(result.actions, result.equilibrium)
        click.echo(f"  equilibrium: {oracle} (certificate {result.equilibrium_certificate:.1g})")
        if result.plain_equilibrium is not None:
            shown = _shown(result.actions, result.plain_equilibrium)
            plain = f"{shown} (exploitability {result.plain_exploitability:.1g})"
        click.echo(f"  without regularisation: {plain}")
        if not result.converged:
            click.echo(
                f"  NOT CONVERGED: the certificate of {algorithm}'s policy, "
                f"{result.certificate:.2g}, exceeds {CONVERGED:g}; {result.remedy}"
            )
    columns = ["context", "converged", "exploitability", "certificate", "kl_to_equilibrium"]
    columns += ["kl_from_equilibrium", "support"]
    columns += ["bradley_terry_winner", "bradley_terry_loss", "bradley_terry_worst"]
    rows = [[getattr(result, name) for name in columns] for result in results]
    for row, result in zip(rows, results, strict=True):
        row[1] = "yes" if row[1] else "NOT CONVERGED"
        if result.bradley_terry_winner is None:
            tied = " = ".join(result.bradley_terry_tied)
            row[-3] = f"tie: {tied}" if tied else "none: not determined"
    games = {"bradley_terry_loss": "regularised", "bradley_terry_worst": "plain"}
    table([f"{name} ({games[name]})" if name in games else name for name in columns], rows)
    for context, a, b in never_compared[:5]:
        click.echo(f"never compared in {context}: {a} and {b}; taken as even")
    if len(never_compared) > 5:
        click.echo(f"never compared: {len(never_compared) - 5} more pairs; taken as even")


def _shown(actions: tuple[str, ...], policy: tuple[float, ...]) -> str:
    """List the most played actions, at most eight."""
    if any(math.isnan(p) for p in policy):
        return "diverged, no numbers are left"
    ranked = sorted(zip(policy, actions, strict=True), key=lambda each: -each[0])
    return ", ".join(f"{action} {p:.3f}" for p, action in ranked[:8] if p >= 0.0005)
