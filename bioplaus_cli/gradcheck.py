"""`gradcheck`: compare gradient estimates with the true gradient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Unpack

import click

from bioplaus_cli.completing import estimators, one_of, oracles
from bioplaus_cli.explaining import Compared
from bioplaus_cli.field_options import hidden_option
from bioplaus_cli.options import TrainingOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import check_plot, events_of, logged, prepare, session_of, whole_numbers
from bridge.console import common_options, print_json, resolve_device, table, warn
from bridge.errors import InputError, RunFailed

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bioplaus import VectorField
    from bioplaus.config import GradcheckConfig
    from bioplaus.estimators import AbstractEstimator
    from bioplaus.gradient_check import GradientReport
    from bioplaus.gradient_row import GradientRow
    from bridge.session import Session
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

    names = ["sizes", "targets", "estimator", "beta", "oracle", "nudging", "cost", "batch"]
    names += ["dtype", "engine", "solver", "tolerance", "seed"]
    flags = picked(options, names)
    flags |= {f"network.{name}": value for name, value in picked(options, _NETWORK).items()}
    if options["sizes"] is not None:
        flags["sizes"] = whole_numbers("--sizes", options["sizes"])
    if from_run and (given := _of_fresh_network(config, options)):
        raise click.UsageError(f"{', '.join(given)} and --from-run both say what the network is")
    print_config(GradcheckConfig, config, flags, options)

    def finished(settings: GradcheckConfig, path: Path) -> dict[str, str]:
        if plot is None:
            return {}
        check_plot(plot, options)
        return _draw(plot, _rows_in(path))

    settings, path = prepare(
        "gradcheck", GradcheckConfig, config, flags, options, finished=finished
    )
    if plot is not None:
        check_plot(plot, options)
    report = _check(settings, path, from_run, options)
    for text in _doubts(report):
        warn(text)
    drawn = {} if plot is None else _draw(plot, report.rows)
    if options["as_json"]:
        rows = [vars(row) for row in report.rows]
        print_json({"asymmetry": report.asymmetry, "rows": rows, "log": str(path), **drawn})
    elif not options["quiet"]:
        _show(report)
        click.echo("\n".join([f"log: {path}", *(f"plot: {each}" for each in drawn.values())]))
    if not report.compared:
        worst = next(iter(report.reasons))
        raise RunFailed(f"no row could be compared: {report.explain(worst)}")


def _show(report: GradientReport) -> None:
    """Print the measures of the Jacobian and the rows."""
    table(("Jacobian", "value"), [(n, _cell(value)) for n, value in report.asymmetry.items()])
    shown = ["estimator", "beta", "oracle", "parameter", "angle_degrees", "relative_error"]
    shown += ["oracle_difference", "bound", "sign_agreement", "nonzero_share", "residual"]
    shown += ["stability", "steps", "reason"]
    table(shown, [[_cell(getattr(row, name)) for name in shown] for row in report.rows])


def _draw(path: Path, rows: Sequence[GradientRow]) -> dict[str, str]:
    """Plot the rows of a report, if any could be compared; give the entries for --json."""
    from bioplaus_cli.gradient_view import gradient_panels, left_out
    from bridge.report.panels import draw_panels

    if not any(row.compared for row in rows):
        return {}
    draw_panels(path, gradient_panels(rows), caption=left_out(rows))
    return {"plot": str(path)}


def _rows_in(path: Path) -> list[GradientRow]:
    """Read the rows of a finished check from the summary in its log.

    Raises:
        InputError: the log has no summary of this version.
    """
    from bioplaus.gradient_row import GradientRow
    from bridge.runlog import read_run

    summaries = [event["of"] for event in read_run(path).events if event["kind"] == "summary"]
    try:
        return [GradientRow(**row) for row in summaries[-1]["rows"]]
    except (IndexError, KeyError, TypeError):
        raise InputError(
            f"{path}: has no rows that this version can plot; check again with another --out"
        ) from None


def _doubts(report: GradientReport) -> list[str]:
    """List remarks on rows that were left out or are doubtful."""
    rows = len(report.rows)
    remarks = [
        f"{n} of {rows} rows: {report.explain(reason)}" for reason, n in report.reasons.items()
    ]
    if report.unconverged:
        remarks.insert(
            0,
            f"{len(report.unconverged)} of {rows} comparisons have phases that did not reach the "
            f"tolerance {report.tolerance:g} and are left out; see their residual",
        )
    return remarks


def _cell(value: object) -> object:
    return "-" if value is None else value


_NETWORK = ("field", "hidden", "activation", "coordinates", "asymmetry", "angle")
"""Options that set keys of the network."""


def _of_fresh_network(config: Path | None, options: GradcheckOptions) -> list[str]:
    """List the settings given for a network that is yet to be drawn."""
    from bridge.config import keys_in

    flags = picked(options, ("sizes", "targets", *_NETWORK))
    given = [f"--{name}" for name, value in flags.items() if value not in (None, ())]
    given += [f"--set {text}" for text in options["sets"] if _of_network(text)]
    if config is not None:
        given += [f"{config}: {key}" for key in sorted(keys_in(config)) if _of_network(key)]
    return given


def _of_network(text: str) -> bool:
    """Whether a --set or a key describes a fresh network or its batch."""
    from bioplaus.config import GradcheckConfig

    key = text.partition("=")[0].strip()
    return key.startswith("network") or key in ("sizes", "targets", *GradcheckConfig.moved)


def _check(
    settings: GradcheckConfig, path: Path, from_run: Path | None, options: GradcheckOptions
) -> GradientReport:
    """Compare, in one step per estimator and beta, and log; give the report."""
    from bioplaus.config import check_settings, check_settling, compared, resolve
    from bioplaus.gradient_check import check_gradients, default_oracles
    from bridge.usercode import record_origins

    device = resolve_device(options["device"])
    found = logged(path) if options["resume"] else None
    if found is not None and found.parent:
        from_run = from_run or Path(found.parent)
    subject = _subject(settings, from_run)
    field = subject.field
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
        dataset=subject.dataset,
        parent=str(from_run) if from_run else None,
    ) as session:
        record_origins(subject.origins, known, session.log.event, warn)
        chosen = check_settings(settings)
        rows = _Rows(session, kind, chosen["generator"])
        report = check_gradients(
            field.to(device),
            subject.x.to(device),
            subject.y.to(device),
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
            done=tuple(rows.made),
            on_rows=rows.add,
        )
        summary = {"asymmetry": report.asymmetry, "rows": [vars(row) for row in report.rows]}
        session.log.event("summary", of=summary)
    return report


class _Rows:
    """The comparisons so far: they are logged as they come, and resumed from a checkpoint."""

    def __init__(self, session: Session, kind: type, nudging: Generator) -> None:
        """Start where the session starts; `nudging` draws the signs of the nudges."""
        from bioplaus.gradient_row import GradientRow
        from bridge.checkpoint import loading, set_random_states

        self._session, self._kind, self._nudging = session, kind, nudging
        self._steps = session.step
        self.made: list[GradientRow] = []
        if session.start is not None:
            with loading():
                self.made = [GradientRow(**row) for row in session.start["rows"]]
                set_random_states(session.start["random"], nudging=nudging)

    def add(self, asymmetry: Mapping[str, float | None], made: Sequence[GradientRow]) -> None:
        """Log the rows of a step."""
        from bioplaus.gradient_row import records

        for record in records(self._kind, asymmetry, made, step=0):
            self._session.log.log("gradients", record)
        self.made.extend(made)
        self._steps += 1
        self._session.after_step(self._steps, self._snapshot)

    def _snapshot(self) -> dict[str, object]:
        from bridge.checkpoint import random_states

        rows = [vars(row) for row in self.made]
        return {"rows": rows, "random": random_states(nudging=self._nudging)}


class _Subject(NamedTuple):
    """The network that is checked, its inputs and targets, and where it comes from."""

    field: VectorField
    x: Tensor
    y: Tensor
    dataset: Mapping[str, str] | None
    origins: Sequence[Provenance]


def _subject(settings: GradcheckConfig, from_run: Path | None) -> _Subject:
    """Draw the network of a config, or load that of a log."""
    from bioplaus.config import check_origins, make_check

    if from_run is None:
        return _Subject(*make_check(settings), None, check_origins(settings))
    return _of_run(settings, from_run)


def _of_run(settings: GradcheckConfig, log: Path) -> _Subject:
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
    return _Subject(*made, {"name": str(log), "sha256": digest}, origins)


def _record_type(estimators: Iterable[Kind], oracles: Iterable[Kind], field: VectorField) -> type:
    from bioplaus.gradient_row import record_type

    compared, true = (dict.fromkeys(each.name for each in kinds) for kinds in (estimators, oracles))
    return record_type(compared, true, field.parameters)
