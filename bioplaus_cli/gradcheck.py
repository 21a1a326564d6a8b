"""`gradcheck`: compare gradient estimates with the true gradient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.completing import estimators, one_of, oracles
from bioplaus_cli.explaining import Compared
from bioplaus_cli.field_options import hidden_option
from bioplaus_cli.options import TrainingOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import check_plot, events_of, logged, prepare, session_of, whole_numbers
from bridge.console import common_options, print_json, resolve_device, table
from bridge.errors import RunFailed

if TYPE_CHECKING:
    from torch import Tensor

    from bioplaus import VectorField
    from bioplaus.config import GradcheckConfig
    from bioplaus.estimators import AbstractEstimator
    from bioplaus.gradient_check import GradientReport
    from bioplaus.gradient_row import GradientRow
    from bridge.usercode import Provenance

    Kind = AbstractEstimator | type[AbstractEstimator]


class GradcheckOptions(TrainingOptions):
    """The options of `gradcheck`."""

    sizes: str | None
    hidden: tuple[int, ...]
    field: str | None
    activation: str | None
    coordinates: str | None
    asymmetry: float | None
    angle: float | None
    estimator: tuple[str, ...]
    beta: tuple[float, ...]
    oracle: tuple[str, ...]
    nudging: str | None
    cost: str | None
    targets: str | None
    batch: int | None
    dtype: str | None
    engine: str | None
    solver: str | None
    tolerance: float | None


@click.command(cls=Compared)
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@click.option("--sizes", help="Units per layer, the input first: 20,30,10.")
@hidden_option("Only the units between, from below: 30,20 or 30 20.")
@click.option("--field", metavar="NAME|module:Class", help="leaky, or your own field.")
@click.option(
    "--activation",
    metavar="NAME|module:function",
    help="Activation function rho: tanh, sigmoid, ...",
)
@click.option("--coordinates", help="membrane, activity or clipped.")
@click.option(
    "--asymmetry",
    type=float,
    metavar="A",
    help="Feedback weights: transpose + A times random weights.",
)
@click.option(
    "--angle",
    type=float,
    metavar="DEGREES",
    help="Angle of the feedback weights to the transpose, instead of --asymmetry.",
)
@click.option(
    "--estimator",
    multiple=True,
    shell_complete=one_of(estimators),
    help="Estimator to compare; repeatable.",
)
@click.option("--beta", type=float, multiple=True, help="Nudging strength; repeatable.")
@click.option(
    "--oracle",
    multiple=True,
    shell_complete=one_of(oracles),
    help="Method for the true gradient; repeatable. By default two, if the size allows.",
)
@click.option("--nudging", help="one-sided, centered or random-sign.")
@click.option(
    "--cost", metavar="NAME|module:function", help="Cost C(s, y): squared-error, cross-entropy."
)
@click.option("--targets", help="Type of the targets: labels, or vectors in [0, 1].")
@click.option("--batch", type=int, help="Number of inputs.")
@click.option("--dtype", help="float32 or float64.")
@click.option("--engine", help="Simulator of the estimators' phases: torch or brian2.")
@click.option("--solver", help="sweeps, euler or anderson (engine torch).")
@click.option("--tolerance", type=float, help="Relative residual at which a phase has converged.")
@click.option(
    "--from-run",
    type=click.Path(path_type=Path),
    metavar="RUN.h5",
    help="Check the network of this log.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Plot the angle and error of each estimate and parameter.",
)
@common_options("set", "print-config", "resume", "checkpoint-every", "deterministic")
@common_options()
def gradcheck(
    config: Path | None,
    from_run: Path | None,
    plot: Path | None,
    **options: Unpack[GradcheckOptions],
) -> None:
    """Compare gradient estimates with the true gradient, and explain the difference.

    Example: python cli.py gradcheck --sizes 20,30,10 --asymmetry 0.5 --estimator vector-field
    --estimator asym-ep --beta 1e-2
    """
    from bioplaus.config import GradcheckConfig
    from bridge.config import keys_in

    network = ("field", "hidden", "activation", "coordinates", "asymmetry", "angle")
    names = ["sizes", "targets", "estimator", "beta", "oracle", "nudging", "cost", "batch"]
    names += ["dtype", "engine", "solver", "tolerance", "seed"]
    flags = picked(options, names)
    flags |= {f"network.{name}": value for name, value in picked(options, network).items()}
    if options["sizes"] is not None:
        flags["sizes"] = whole_numbers("--sizes", options["sizes"])
    fresh = ("sizes", "targets", *network)
    given = [
        f"--{name}" for name, value in picked(options, fresh).items() if value not in (None, ())
    ]
    given += [f"--set {text}" for text in options["sets"] if _of_network(text)]
    if from_run and config is not None:
        given += [f"{config}: {key}" for key in sorted(keys_in(config)) if _of_network(key)]
    if from_run and given:
        raise click.UsageError(f"{', '.join(given)} and --from-run both say what the network is")
    print_config(GradcheckConfig, config, flags, options)
    settings, path = prepare("gradcheck", GradcheckConfig, config, flags, options)
    if plot is not None:
        check_plot(plot, options)
    report = _check(settings, path, from_run, options)
    for text in _doubts(report):
        warn(text)
    drawn = _draw(plot, report) if plot is not None and report.compared else {}
    if options["as_json"]:
        rows = [vars(row) for row in report.rows]
        print_json({"asymmetry": report.asymmetry, "rows": rows, "log": str(path), **drawn})
    elif not options["quiet"]:
        table(("Jacobian", "value"), [(n, _cell(value)) for n, value in report.asymmetry.items()])
        shown = ["estimator", "beta", "oracle", "parameter", "angle_degrees", "relative_error"]
        shown += ["oracle_difference", "bound", "sign_agreement", "nonzero_share", "residual"]
        shown += ["stability", "steps", "reason"]
        table(shown, [[_cell(getattr(row, name)) for name in shown] for row in report.rows])
        click.echo("\n".join([f"log: {path}", *(f"plot: {each}" for each in drawn.values())]))
    if not report.compared:
        worst = next(iter(report.reasons))
        raise RunFailed(f"no row could be compared: {report.said(worst)}")


def _draw(path: Path, report: GradientReport) -> dict[str, str]:
    """Plot a report; give the entries for --json."""
    from bioplaus_cli.gradient_view import gradient_panels, left_out
    from bridge.report.panels import draw_panels

    draw_panels(path, gradient_panels(report), caption=left_out(report))
    return {"plot": str(path)}


def warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def _doubts(report: GradientReport) -> list[str]:
    """List remarks on rows that were left out or are doubtful."""
    rows = len(report.rows)
    said = [f"{n} of {rows} rows: {report.said(reason)}" for reason, n in report.reasons.items()]
    if report.unconverged:
        said.insert(
            0,
            f"{len(report.unconverged)} of {rows} comparisons have phases that did not reach the "
            f"tolerance {report.tolerance:g} and are left out; see their residual",
        )
    return said


def _cell(value: object) -> object:
    return "-" if value is None else value


def _of_network(text: str) -> bool:
    """Whether a --set or a key describes a fresh network or its batch."""
    from bioplaus.config import GradcheckConfig

    key = text.partition("=")[0].strip()
    return key.startswith("network") or key in ("sizes", "targets", *GradcheckConfig.moved)


def _check(
    settings: GradcheckConfig, path: Path, from_run: Path | None, options: GradcheckOptions
) -> GradientReport:
    """Compare, in one step per estimator and beta, and log; give the report."""
    from bioplaus.config import (
        check_origins,
        check_settings,
        check_settling,
        compared,
        make_check,
        resolve,
    )
    from bioplaus.gradient_check import check_gradients, default_oracles
    from bioplaus.gradient_row import GradientRow, records
    from bridge.checkpoint import loading, random_states, set_random_states
    from bridge.usercode import record_origins

    device = resolve_device(options["device"])
    found = logged(path) if options["resume"] else None
    if found is not None and found.parent:
        from_run = from_run or Path(found.parent)
    if from_run:
        (field, x, y), dataset, origins = _of_run(settings, from_run)
    else:
        (field, x, y), dataset, origins = make_check(settings), None, check_origins(settings)
    estimators = compared(settings)
    oracles = [resolve("oracle", each) for each in settings.oracle or default_oracles(field)]
    kind = _record_type(estimators, oracles, field)
    known = events_of(path) if options["resume"] else ()
    with session_of(
        path,
        settings,
        options,
        device,
        tables={"gradients": kind},
        dataset=dataset,
        parent=str(from_run) if from_run else None,
    ) as session:
        record_origins(origins, known, session.log.event, warn)
        chosen, rows, steps = check_settings(settings), [], session.step
        generators = {"nudging": chosen["generator"]}
        if session.start is not None:
            with loading():
                rows = [GradientRow(**row) for row in session.start["rows"]]
                set_random_states(session.start["random"], **generators)

        def on_rows(asymmetry: Mapping[str, float | None], made: Sequence[GradientRow]) -> None:
            nonlocal steps
            for record in records(kind, asymmetry, made, step=0):
                session.log.log("gradients", record)
            rows.extend(made)
            steps += 1
            session.after_step(steps, snapshot)

        def snapshot() -> dict[str, object]:
            return {"rows": [vars(row) for row in rows], "random": random_states(**generators)}

        report = check_gradients(
            field.to(device),
            x.to(device),
            y.to(device),
            resolve("cost", settings.cost),
            estimators,
            settings.beta,
            oracles,
            settling=check_settling(settings),
            oracle_settling=(
                None if settings.engine == "torch" else check_settling(settings, "torch")
            ),
            settings=chosen,
            seed=settings.seed,
            done=tuple(rows),
            on_rows=on_rows,
        )
        said = {"asymmetry": report.asymmetry, "rows": [vars(row) for row in report.rows]}
        session.log.event("summary", of=said)
    return report


def _of_run(
    settings: GradcheckConfig, log: Path
) -> tuple[tuple[VectorField, Tensor, Tensor], dict[str, str], tuple[Provenance, ...]]:
    """Load the network of a log and its data, with the log's name and the origins of their code."""
    from bioplaus.config import restore_check, restored_origins
    from bridge.runlog import read_run
    from bridge.usercode import changes, remember

    source = read_run(log)
    remember(source.events)
    made = restore_check(settings, source.config, source.weights()[1])
    origins = restored_origins(settings, source.config)
    for _, text in changes(origins, source.events):
        warn(f"{text}; what is compared is as it is now")
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    return made, {"name": str(log), "sha256": digest}, origins


def _record_type(estimators: Iterable[Kind], oracles: Iterable[Kind], field: VectorField) -> type:
    from bioplaus.gradient_row import record_type

    compared, true = (dict.fromkeys(each.name for each in kinds) for kinds in (estimators, oracles))
    return record_type(compared, true, field.parameters)
