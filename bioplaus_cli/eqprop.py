"""`eqprop-run`: train a network by equilibrium propagation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.explaining import Explained
from bioplaus_cli.field_options import (
    FieldOptions,
    data_options,
    field_flags,
    learning_options,
    network_options,
)
from bioplaus_cli.learning import EpochRecord, learn
from bioplaus_cli.options import SweepOptions
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import check_plot, look_at, prepare
from bioplaus_cli.sweeps import sweep
from bridge.console import SWEEPING, common_options, print_json, resolve_device
from bridge.errors import Stopped, StorageError

if TYPE_CHECKING:
    from bioplaus.config import EqpropConfig
    from bioplaus.training import Run
    from bridge.distributed import Group
    from bridge.sweep import AbstractLauncher


class EqpropOptions(SweepOptions, FieldOptions):
    """The options of `eqprop-run`."""

    cost: str | None
    plot: Path | None


@click.command("eqprop-run", cls=Explained)
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@data_options("mnist, fashion-mnist; a data folder or file; a function that loads data.")
@network_options(
    "leaky, convolutional; or your own: a class, an object, or a function that returns either."
)
@click.option(
    "--cost", metavar="NAME|module:function", help="Cost C(s, y): cross-entropy, squared-error."
)
@learning_options("Estimator of the update: asym-ep, ...")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Plot errors, angles and first-layer weights; with --engine brian2 also a simulation.",
)
@common_options("set", "print-config", "resume", "reschedule", "checkpoint-every")
@common_options("deterministic", "together", *SWEEPING)
@common_options()
@click.pass_context
def eqprop_run(ctx: click.Context, config: Path | None, **options: Unpack[EqpropOptions]) -> None:
    """Train a network by equilibrium propagation: leaky integrators, or your own field.

    \b
    Examples:
      python cli.py eqprop-run --epochs 2 --hidden 256 --set optimizer.learning_rate=0.3
      python cli.py eqprop-run --field mynet.py:Net --estimator asym-ep --epochs 2
      python cli.py eqprop-run --seeds 0..4 --sweep estimator.beta=0.1,0.5 --out runs/beta
      python cli.py eqprop-run --seeds 0..31 --together --out runs/seeds
    """
    from bioplaus.config import EqpropConfig
    from bridge.distributed import joined

    flags = field_flags(options) | {"estimator.cost": options["cost"]}
    print_config(EqpropConfig, config, flags, options)

    def in_one(points: Mapping[Path, Mapping[str, str]]) -> AbstractLauncher:
        from bioplaus_cli.together import Together

        return Together(points, config, flags, options)

    if sweep(EqpropConfig, config, flags, options, in_one=in_one):
        return
    device = resolve_device(options["device"])
    with joined(device) as group:
        settings, path = prepare(
            "eqprop-run",
            EqpropConfig,
            config,
            flags,
            options,
            group=group,
            finished=partial(_redraw, options, device),
        )
        if options["plot"]:
            check_plot(options["plot"], options)
        summary = _train(settings, path, device, group, options)
        if group.rank:
            return
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        click.echo(f"log: {path}\n{look_at(path)}")
        if options["plot"]:
            click.echo(f"plot: {options['plot']}")


def _train(
    settings: EqpropConfig, path: Path, device: str, group: Group, options: EqpropOptions
) -> dict[str, object]:
    """Train, log and plot; give the summary."""
    from bioplaus.training import build

    run = build(settings, device, group)
    columns = _epoch_columns(run.epoch_record)
    plot = options["plot"] if group.rank == 0 else None
    try:
        summary = learn(run, path, device, group, options, columns, _epoch_cells)
    except Stopped:
        if plot:
            try:
                _draw(plot, path, run, settings, ended=False)
            except StorageError as error:
                click.echo(f"error: {error}", err=True)
        raise
    if plot:
        _draw(plot, path, run, settings, ended=True)
        summary["plot"] = str(plot)
    return summary


def _redraw(
    options: EqpropOptions, device: str, settings: EqpropConfig, path: Path
) -> dict[str, str]:
    """Plot a run that has finished before, if a picture is asked for."""
    from bioplaus.config import restore_field
    from bioplaus.training import build
    from bridge.runlog import read_run

    plot = options["plot"]
    if plot is None:
        return {}
    check_plot(plot, options)
    field = restore_field(settings.model_dump(mode="json"), read_run(path).weights()[1])
    run = replace(build(settings, device), field=field.to(device))
    _draw(plot, path, run, settings, ended=True)
    return {"plot": str(plot)}


def _draw(plot: Path, path: Path, run: Run, settings: EqpropConfig, ended: bool) -> None:
    """Plot a run from its log; if it has ended in Brian2, its simulation too."""
    from bioplaus.config.choices import BrianPhaseConfig
    from bioplaus_cli.training_view import training_panels
    from bridge.report.panels import draw_panels

    panels, left_out = training_panels(path, run), []
    if ended and isinstance(settings.phases, BrianPhaseConfig):
        from bioplaus_cli.portrait import portrait

        beta = settings.estimator.settings()["beta"]
        more, left_out = portrait(run, settings.phases.brian2.tau, beta)
        panels += more
    if not panels:
        left_out.append(f"no plot: {path} holds no epoch yet")
    for line in left_out:
        click.echo(line, err=True)
    if panels:
        draw_panels(plot, panels, columns=3 if len(panels) == 3 else 2)


def _epoch_columns(record: type) -> dict[str, str]:
    pairs = sum(name.startswith("alignment") for name in record.__annotations__)
    columns = {"epoch": "d", "train error": ".2f", "test error": ".2f"}
    columns |= {"free residual": ".1e", "nudged residual": ".1e"}
    columns |= {"free steps": ".1f", "nudged steps": ".1f", "converged": ".1%"}
    columns |= {f"alignment {k + 1}": ".3f" for k in range(pairs)}
    if "loop_radius" in record.__annotations__:
        columns |= {"loop radius": ".2f", "feedback scale": ".3f"}
    return columns | {"images/s": ".0f"}


def _epoch_cells(record: EpochRecord) -> list[object]:
    named = vars(record)
    names = ["epoch", "train_error", "test_error", "free_residual", "nudged_residual"]
    names += ["free_steps", "nudged_steps", "converged"]
    names += [name for name in named if name.startswith("alignment")]
    names += [name for name in ("loop_radius", "feedback_scale") if name in named]
    return [named[name] for name in [*names, "images_per_second"]]
