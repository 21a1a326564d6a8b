"""`nash-md`: the equilibrium of a preference game, on a table or by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bridge.console import SWEEPING, common_options, print_json, resolve_device, table
from commands.shared import logged, prepare, session_of
from commands.sweeps import sweep


@click.command("nash-md")
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option("--game", help="sound-quality, roshambo, a built-in game, or a CSV file.")
@click.option("--model", help="A causal language model: folder, hub name, smollm2, tiny:WORD,...")
@click.option("--prompts", metavar="FILE.jsonl", help='Lines {"prompt": ...}; with --model.')
@click.option("--preference", help="DIR of preference-train, or module:function; with --model.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the learnt model goes; beside the log if not given.",
)
@click.option("--algorithm", help="nash-md, self-play, extragradient, mirror-prox, ...")
@click.option("--tau", type=float, help="Weight of the KL to the reference policy.")
@click.option("--iterations", type=int, help="Steps of the algorithm.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw policies.")
@common_options("set", "resume", "checkpoint-every", "deterministic", *SWEEPING)
@common_options()
def nash_md(plot: Path | None, **options: Any) -> None:
    """Find the policy that no other policy is preferred to, with a certificate.

    With --model, fine-tune a language model so that its answers are preferred to any competitor's.

    \b
    Examples:
      python cli.py nash-md --game rock-paper-scissors --tau 0.05 --iterations 500
      python cli.py nash-md --seeds 0..9 --sweep algorithm=nash-md,self-play --out runs/nash
    """
    if options["model"] or options["config"] or _goes_on_with_model(options):
        from commands.language import nash_language

        nash_language(plot=plot, **options)
        return
    for name in ("prompts", "preference", "save"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} is for language models; give --model too")
    from bridge.progress import progress
    from bridge.report.policies import check_picture, plot_policies
    from nlhf.config import NashConfig
    from nlhf.training import StepRecord, build, solve

    names = ("game", "algorithm", "tau", "iterations", "seed")
    if plot:
        if options["resume"]:
            raise click.UsageError("--plot draws the whole course, which --resume does not run")
        check_picture(plot)
    flags = {name: options[name] for name in names}
    if sweep(NashConfig, None, flags, {**options, "plot": plot}):
        return
    settings, path = prepare("nash-md", NashConfig, None, flags, options)
    device = resolve_device(options["device"])
    run = build(settings, device)
    policies: list[tuple[int, Any]] = []
    with (
        session_of(
            path,
            settings,
            options,
            device,
            tables={"metrics": StepRecord},
            dataset=run.source,
        ) as session,
        progress(settings.iterations, settings.algorithm, options["quiet"]) as bar,
    ):
        log = session.log
        results = solve(
            run,
            on_record=lambda record: log.log("metrics", record),
            on_policy=lambda step, policy: policies.append((step, policy.cpu().numpy())),
            advance=bar.advance,
            start=session.start,
            after_step=session.after_step,
        )
        said = {"contexts": [vars(result) for result in results]}
        log.event("summary", of=said)
    if plot:
        steps, course = zip(*policies, strict=True)
        oracle = run.log_equilibrium.exp().cpu().numpy()
        source = run.preferences
        plot_policies(plot, source.contexts, source.actions, steps, np.stack(course), oracle)
    if options["as_json"]:
        print_json({**said, "log": str(path)})
    elif not options["quiet"]:
        _print_equilibria(results, run.preferences.never_compared)
        click.echo(f"log: {path}\nlook at it: python cli.py runs show {path}")


def _goes_on_with_model(options: dict[str, Any]) -> bool:
    """Whether the log to go on with is of a language model."""
    found = logged(options["out"]) if options["resume"] else None
    return found is not None and "model" in found[0]


def _print_equilibria(results: list[Any], never_compared: tuple[tuple[str, str, str], ...]) -> None:
    for result in results:
        ranked = sorted(zip(result.policy, result.actions, strict=True), reverse=True)
        shown = ", ".join(f"{action} {p:.3f}" for p, action in ranked[:8] if p >= 0.0005)
        click.echo(f"{result.context}: {shown}")
    columns = ["context", "exploitability", "certificate", "kl_to_equilibrium", "support"]
    columns += ["bradley_terry_winner", "bradley_terry_loss", "bradley_terry_worst"]
    table(columns, [[getattr(result, name) for name in columns] for result in results])
    for context, a, b in never_compared[:5]:
        click.echo(f"never compared in {context}: {a} and {b}; taken as even")
    if len(never_compared) > 5:
        click.echo(f"never compared: {len(never_compared) - 5} more pairs; taken as even")
