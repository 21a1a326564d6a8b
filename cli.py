"""The command line: parses, dispatches and prints; holds no science."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

import bioplaus.errors
import nlhf.errors
from bridge.console import (
    Commands,
    RowTable,
    common_options,
    print_json,
    resolve_device,
    set_threads,
    table,
)
from bridge.log_commands import compare, runs


class Spread(click.Command):
    """A command whose repeatable whole-number options also take several values at once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--hidden 512 256` as `--hidden 512 --hidden 256`."""
        repeatable = {
            name
            for p in self.params
            if isinstance(p, click.Option)
            and p.multiple
            and isinstance(p.type, click.types.IntParamType)
            for name in p.opts
        }
        spread: list[str] = []
        option, taken = None, 0
        for arg in args:
            if arg in repeatable:
                option, taken = arg, 0
            elif option and re.fullmatch(r"-?\d+", arg):
                if taken:
                    spread.append(option)
                taken += 1
            else:
                option = None
            spread.append(arg)
        return super().parse_args(ctx, spread)


@click.group(
    cls=Commands,
    input_errors=(bioplaus.errors.InputError, nlhf.errors.InputError),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Learn without backpropagation, and find what no one can beat."""


@main.command("eqprop-run", cls=Spread)
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option("--dataset", help="mnist, fashion-mnist, or a folder of IDX files.")
@click.option("--data-dir", help="Folder of a named data set's files.")
@click.option("--hidden", type=int, multiple=True, help="Units of each hidden layer: 512 512.")
@click.option("--estimator", help="Where the update comes from.")
@click.option("--nudging", help="one-sided, centered or random-sign.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--check-gradients-every", type=int, metavar="N", help="Steps between checks.")
@common_options("set", "json", "seed", "out", "overwrite", "device", "threads", "quiet")
@click.pass_context
def eqprop_run(ctx: click.Context, config: Path | None, **options: Any) -> None:
    """Train a network of leaky integrators by equilibrium propagation.

    Example: python cli.py eqprop-run --epochs 2 --hidden 256 --set optimizer.learning_rate=0.3
    """
    from bioplaus.config import EqpropConfig
    from bioplaus.training import StepRecord, build, train
    from bridge import open_run
    from bridge.config import load_config
    from bridge.progress import progress

    flags = {
        "data.dataset": options["dataset"],
        "data.data_dir": options["data_dir"],
        "network.hidden": options["hidden"],
        "estimator.name": options["estimator"],
        "estimator.nudging": options["nudging"],
        "epochs": options["epochs"],
        "check_gradients_every": options["check_gradients_every"],
        "seed": options["seed"],
    }
    settings = load_config(EqpropConfig, config, flags, options["sets"])
    path = new_log("eqprop-run", options)
    device = resolve_device(options["device"])
    set_threads(options["threads"])
    run = build(settings, device)
    silent = options["quiet"] or options["as_json"]
    rows = RowTable(_epoch_columns(len(run.field.layers) - 1), quiet=silent)
    tables = {"metrics": StepRecord, "epochs": run.epoch_record}
    if settings.check_gradients_every:
        tables["gradients"] = run.check_record
    log = open_run(
        path,
        tables=tables,
        config=settings,
        seed=settings.seed,
        overwrite=options["overwrite"],
        command=sys.argv,
        dataset={"name": run.dataset.name, "sha256": run.dataset.sha256},
        weights=run.field.parameters,
    )
    total = settings.epochs * len(run.dataset.train_labels)
    with log, progress(total, "training", options["quiet"]) as bar:

        def on_epoch(record: Any) -> None:
            log.log("epochs", record)
            log.save_weights(record.step, run.field.parameters)
            rows.row(*_epoch_cells(record))

        summary = train(
            run,
            on_step=lambda r: log.log("metrics", r),
            on_epoch=on_epoch,
            on_check=lambda r: log.log("gradients", r),
            advance=bar.advance,
        )
    if options["as_json"]:
        click.echo(json.dumps({**vars(summary), "log": str(path), "seed": settings.seed}))
    elif not options["quiet"]:
        click.echo(f"log: {path}\nlook at it: python cli.py runs show {path}")


def _epoch_columns(pairs: int) -> dict[str, str]:
    columns = {"epoch": "d", "train error": ".2f", "test error": ".2f"}
    columns |= {"free residual": ".1e", "nudged residual": ".1e"}
    columns |= {"free steps": ".1f", "nudged steps": ".1f", "converged": ".1%"}
    columns |= {f"alignment {k + 1}": ".3f" for k in range(pairs)}
    return columns | {"images/s": ".0f"}


def _epoch_cells(record: Any) -> list[Any]:
    named = vars(record)
    names = ["epoch", "train_error", "test_error", "free_residual", "nudged_residual"]
    names += ["free_steps", "nudged_steps", "converged"]
    names += [name for name in named if name.startswith("alignment")]
    return [named[name] for name in [*names, "images_per_second"]]


@main.command(cls=Spread)
@click.option("--sizes", help="Units a layer, the input first: 20,30,10.")
@click.option("--activation", help="tanh, sigmoid, sigmoid-4s-2, hard-sigmoid, softplus, linear.")
@click.option("--coordinates", help="membrane, activity or clipped.")
@click.option("--asymmetry", type=float, metavar="A", help="Feedback: transpose + A times a draw.")
@click.option("--angle", type=float, metavar="DEGREES", help="Instead: angle to the transpose.")
@click.option("--estimator", multiple=True, help="What is compared; repeatable.")
@click.option("--beta", type=float, multiple=True, help="The nudge; repeatable.")
@click.option("--oracle", multiple=True, help="What is taken for true; repeatable.")
@click.option("--nudging", help="one-sided, centered or random-sign.")
@click.option("--cost", help="squared-error or cross-entropy.")
@click.option("--batch", type=int, help="Number of inputs.")
@click.option("--dtype", help="float32 or float64.")
@click.option("--solver", help="sweeps, euler or anderson.")
@click.option("--tolerance", type=float, help="Relative residual at which a phase is done.")
@click.option("--from-run", type=click.Path(path_type=Path), metavar="RUN.h5", help="Its network.")
@common_options("set", "json", "seed", "out", "overwrite", "device", "threads", "quiet")
def gradcheck(from_run: Path | None, **options: Any) -> None:
    """Compare gradient estimates with the true gradient, and explain the difference.

    Example: python cli.py gradcheck --sizes 20,30,10 --asymmetry 0.5 --estimator vector-field
    --estimator asym-ep --beta 1e-2
    """
    from bioplaus.config import (
        GradcheckConfig,
        check_settings,
        check_settling,
        make_check,
        restore_check,
    )
    from bioplaus.gradient_check import check_gradients, record_type, records
    from bridge import open_run
    from bridge.config import load_config
    from bridge.runlog import read_run

    fresh = ("sizes", "activation", "coordinates", "asymmetry", "angle")
    names = [*fresh, "estimator", "beta", "oracle", "nudging", "cost", "batch", "dtype"]
    flags = {name: options[name] for name in [*names, "solver", "tolerance", "seed"]}
    if flags["sizes"] is not None:
        flags["sizes"] = whole_numbers("--sizes", flags["sizes"])
    given = [f"--{name}" for name in fresh if flags[name] is not None]
    if from_run and given:
        raise click.UsageError(f"{', '.join(given)} and --from-run both say what the network is")
    settings = load_config(GradcheckConfig, None, flags, options["sets"])
    path = new_log("gradcheck", options)
    device = resolve_device(options["device"])
    set_threads(options["threads"])
    if from_run:
        source = read_run(from_run)
        field, x, y = restore_check(settings, source.config, source.weights()[1])
    else:
        field, x, y = make_check(settings)
    field, x, y = field.to(device), x.to(device), y.to(device)
    kind = record_type(settings.estimator, settings.oracle, field.parameters)
    with open_run(
        path,
        tables={"gradients": kind},
        config=settings,
        seed=settings.seed,
        overwrite=options["overwrite"],
        command=sys.argv,
        parent=str(from_run) if from_run else None,
    ) as log:
        report = check_gradients(
            field,
            x,
            y,
            settings.cost,
            settings.estimator,
            settings.beta,
            settings.oracle,
            settling=check_settling(settings),
            settings=check_settings(settings),
            seed=settings.seed,
        )
        for record in records(kind, report, step=0):
            log.log("gradients", record)
    if report.unconverged:
        click.echo(
            f"warning: {len(report.unconverged)} of {len(report.rows)} comparisons have phases "
            f"that did not reach the tolerance {report.tolerance:g}; see their residual",
            err=True,
        )
    if options["as_json"]:
        rows = [vars(row) for row in report.rows]
        print_json({"asymmetry": report.asymmetry, "rows": rows, "log": str(path)})
    elif not options["quiet"]:
        table(("Jacobian", "value"), list(report.asymmetry.items()))
        shown = ["estimator", "beta", "oracle", "parameter", "angle_degrees", "relative_error"]
        shown += ["bound", "sign_agreement", "residual", "steps"]
        table(shown, [[getattr(row, name) for name in shown] for row in report.rows])
        click.echo(f"log: {path}")


def new_log(command: str, options: dict[str, Any]) -> Path:
    """Where the log of a command goes; refused before any work if it cannot go there."""
    from bridge.runlog import check_new_log, default_path

    path = options["out"] or default_path(command)
    check_new_log(path, options["overwrite"])
    return path


def whole_numbers(option: str, text: str) -> list[int]:
    """Read "20,30,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: write whole numbers with commas") from None


@main.command("nash-md")
@click.option("--game", help="sound-quality, roshambo, a built-in game, or a CSV file.")
@click.option("--algorithm", help="nash-md, self-play, extragradient, mirror-prox, ...")
@click.option("--tau", type=float, help="Weight of the KL to the reference policy.")
@click.option("--iterations", type=int, help="Steps of the algorithm.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw policies.")
@common_options("set", "json", "seed", "out", "overwrite", "device", "threads", "quiet")
def nash_md(plot: Path | None, **options: Any) -> None:
    """Find the policy that no other policy is preferred to, with a certificate.

    Example: python cli.py nash-md --game rock-paper-scissors --tau 0.05 --iterations 500
    """
    from bridge import open_run
    from bridge.config import load_config
    from bridge.progress import progress
    from bridge.report.policies import check_picture, plot_policies
    from nlhf.config import NashConfig
    from nlhf.training import StepRecord, build, solve

    names = ("game", "algorithm", "tau", "iterations", "seed")
    settings = load_config(
        NashConfig, None, {name: options[name] for name in names}, options["sets"]
    )
    path = new_log("nash-md", options)
    if plot:
        check_picture(plot)
    set_threads(options["threads"])
    run = build(settings, resolve_device(options["device"]))
    policies: list[tuple[int, Any]] = []
    log = open_run(
        path,
        tables={"metrics": StepRecord},
        config=settings,
        seed=settings.seed,
        overwrite=options["overwrite"],
        command=sys.argv,
        dataset=run.source,
    )
    with log, progress(settings.iterations, settings.algorithm, options["quiet"]) as bar:
        results = solve(
            run,
            on_record=lambda record: log.log("metrics", record),
            on_policy=lambda step, policy: policies.append((step, policy.cpu().numpy())),
            advance=bar.advance,
        )
    if plot:
        steps, course = zip(*policies, strict=True)
        oracle = run.log_equilibrium.exp().cpu().numpy()
        source = run.preferences
        plot_policies(plot, source.contexts, source.actions, steps, np.stack(course), oracle)
    if options["as_json"]:
        print_json({"contexts": [vars(result) for result in results], "log": str(path)})
    elif not options["quiet"]:
        _print_equilibria(results, run.preferences.never_compared)
        click.echo(f"log: {path}\nlook at it: python cli.py runs show {path}")


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


main.add_command(compare)
main.add_command(runs)

if __name__ == "__main__":
    main()
