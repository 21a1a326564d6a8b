"""Training from Python: `fit`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bioplaus.calling import answered
from bioplaus.config import fit_config, loop_settings, optimizer_settings, resolve
from bioplaus.contraction import Contraction
from bioplaus.costs import CostLike
from bioplaus.data import Augment, Dataset
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator, EstimatorLike
from bioplaus.fields import VectorField
from bioplaus.phases import Settling
from bioplaus.registry import unknown
from bioplaus.solvers import AbstractSolver
from bioplaus.training.history import History
from bioplaus.training.loop import train
from bioplaus.training.objective import AbstractObjective, Supervised
from bioplaus.training.recording import Recording
from bioplaus.training.run import Run, fitted, make_run
from bridge.errors import Interrupted
from bridge.optim import METHODS, Optimizer
from bridge.schedules import ScheduleName
from bridge.seeding import generator
from bridge.usercode import names_code

SETTLING = Settling(tolerance=1e-3, free_steps=200, nudged_steps=100, verify=False)
"""How the phases settle in training by default."""
GATE = 0.1
"""The default residual above which a row does not enter an update."""
RATE = 0.003
RATES = {"sgd": 0.1, "momentum": 0.1}
"""Default learning rates by optimizer; RATE for all others."""


@answered
def fit(
    field: VectorField,
    data: Dataset | str | Path | tuple[Any, ...] | Callable[..., Any],
    *,
    estimator: EstimatorLike = "asym-ep",
    cost: CostLike | None = None,
    objective: AbstractObjective | None = None,
    optimizer: str | Optimizer | Callable[..., Optimizer] = "adam",
    learning_rate: float | None = None,
    rates: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
    schedule: ScheduleName = "cosine",
    warmup_steps: int = 0,
    clip_norm: float | None = None,
    epochs: int = 10,
    batch_size: int = 50,
    settling: Settling | None = None,
    solver: str | AbstractSolver | type[AbstractSolver] | None = None,
    gate: float | None = None,
    callbacks: Callable[[Any], Any] | Iterable[Callable[[Any], Any]] = (),
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    reschedule: bool = False,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    seed: int = 0,
    log_every: int = 1,
    check_gradients_every: int = 0,
    check_rows: int = 20,
    evaluation_batch: int = 500,
    micro_shards: int = 1,
    augment: Augment | None = None,
    label_smoothing: float = 0.0,
    average: float | None = None,
    test_mirrored: bool = False,
    products: str = "full",
    contraction: Contraction | None = None,
) -> History:
    """Train a field, in place, by equilibrium propagation.

    The loop, the log and resumption are those of the command line. Ctrl-C ends the run after the
    current step; the history so far is returned, with the status "stopped".

    Args:
        field: any vector field; its parameters are changed in place.
        data: a `Dataset`, arrays (x, y) or (x, y, x_test, y_test), a name, a path or a function.
        estimator: computes the updates: a name, a class or an object.
        cost: a name, an object or a function C(s, y) -> [B]; None is the cross-entropy of labels
            and the squared error of target vectors.
        objective: a learning signal in place of a cost, e.g. `bioplaus_votes.NashMD`; the
            data's labels are then the contexts in which it is queried.
        optimizer: sgd, momentum or adam; an `Optimizer` over the field's parameters; or a function
            of `params` and the settings below that returns one.
        learning_rate: initial learning rate, > 0; None means 0.003, or 0.1 for sgd and momentum.
        rates: multipliers of the learning rate by parameter. For these and the next four settings
            see `bridge.optim.Optimizer`.
        weight_decay: decoupled weight decay, >= 0.
        schedule: schedule of the learning rate over the run.
        warmup_steps: number of steps over which the learning rate rises.
        clip_norm: largest norm of all updates together; None means no limit.
        epochs: passes over the training examples.
        batch_size: examples per update.
        settling: how phases settle; None means the estimator's own settling if it was given one,
            else `SETTLING`.
        solver: replaces the solver of the settling.
        gate: residual above which a row does not enter an update; None means the estimator's own
            gate if it was given one, else 0.1.
        callbacks: called with each epoch's row.
        out: the log, FILE.h5; None writes nothing and needs no h5py.
        resume: continue the log at `out`, bit for bit, or start it if there is none.
        reschedule: allow `resume` to lengthen a run whose schedule depends on its length.
        overwrite: replace an existing log.
        checkpoint_every: steps between checkpoints; None means about one per minute.
        seed: seed of the order of the examples and of random nudges.
        log_every: steps between rows of `History.steps`.
        check_gradients_every: steps between comparisons with the true gradient; 0 means never.
        check_rows: examples in such a comparison.
        evaluation_batch: test examples per batch.
        micro_shards: parts of a batch whose updates are estimated in turn and summed.
        augment: how images are changed before each update.
        label_smoothing: part of a target that is spread evenly over all classes, in [0, 1).
        average: decay of a running average of the weights, in (0, 1). The average is tested, and
            becomes the field's weights at the end. None means no average.
        test_mirrored: test on the summed outputs for an image and its mirror image.
        products: "full", or "bfloat16" in the phases; weights, states and updates keep their
            dtype.
        contraction: keeps the phases settling while the weights learn.

    Returns:
        The history of the run: its rows, with tables and plots.

    Raises:
        InputError: an argument is out of range or does not fit the others; the message names it.
        RunFailed: the network diverged; the message says cause and remedy.

    Examples:
        >>> import torch
        >>> from bioplaus import LeakyField
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.rand(60, 4, generator=g)
        >>> net = LeakyField([4, 8, 2], generator=g)
        >>> history = fit(net, (x, (x[:, 0] > x[:, 1]).long()), epochs=30, batch_size=20)
        >>> history.rows[-1].train_error < history.rows[0].train_error
        True
    """
    _require_field(field)
    _require_numbers(learning_rate=learning_rate, clip_norm=clip_norm, gate=gate)
    _require_numbers(0.0, weight_decay=weight_decay)
    _require_whole(checkpoint_every=checkpoint_every, warmup_steps=warmup_steps or None)
    if not isinstance(rates or {}, Mapping):
        raise InputError(f"rates={rates!r} must be numbers by parameter, e.g. {{'bias': 0.1}}")
    log = _log_options(out, resume=resume, reschedule=reschedule, overwrite=overwrite)
    log["checkpoint_every"] = checkpoint_every
    loop: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "seed": seed}
    loop |= {"log_every": log_every, "check_rows": check_rows}
    loop |= {"check_gradients_every": check_gradients_every, "evaluation_batch": evaluation_batch}
    loop |= {"micro_shards": micro_shards, "label_smoothing": label_smoothing, "average": average}
    loop |= {"test_mirrored": test_mirrored, "products": products}
    loop = loop_settings(contraction=contraction, augment=augment, **loop)
    given = _dataset(data, field)
    chosen = _objective(objective, cost, given)
    dataset = fitted(given, field, chosen)
    rule = _rule(estimator, settling, solver, gate, seed)
    rule.check(field, chosen.cost)
    rule.require_effect(field)
    own = {"learning_rate": learning_rate, "rates": dict(rates or {}), "schedule": schedule}
    own |= {"weight_decay": weight_decay, "warmup_steps": warmup_steps, "clip_norm": clip_norm}
    own["total_steps"] = epochs * -(-len(dataset.train) // batch_size)
    moved, kept = _optimizer(optimizer, field, own)
    taught = {} if isinstance(chosen, Supervised) else chosen.settings
    config = fit_config(field, dataset, taught, chosen.cost, rule, kept, loop)
    run = make_run(
        config, dataset=dataset, field=field, objective=chosen, estimator=rule, optimizer=moved
    )
    history = History(None if out is None else Path(out))
    return _trained(run, Recording(run, history, _callbacks(callbacks), log))


def _require_field(field: Any) -> None:
    if not isinstance(field, VectorField):
        raise InputError(
            f"field is {type(field).__name__}; give a FunctionField, a LayeredField, a LeakyField "
            "or a VectorField of your own"
        )


def _log_options(out: Any, **given: bool) -> dict[str, Any]:
    """Options of a log; rejected if there is no log."""
    if not isinstance(out, str | os.PathLike | None):
        raise InputError(f"out={out!r} is no path; give FILE.h5, or None for no log")
    if out is None and (options := [name for name, value in given.items() if value]):
        raise InputError(f"{options[0]}=True is about a log, and there is none: give out=FILE.h5")
    return dict(given)


def _trained(run: Run, recording: Recording) -> History:
    history = recording.history
    history.warnings += run.dataset.facts.warnings
    try:
        with recording.opened() as (start, after_step):
            if not recording.finished:
                summary = train(
                    run,
                    on_step=recording.on_step,
                    on_epoch=recording.on_epoch,
                    on_check=recording.on_check,
                    on_act=recording.on_act,
                    start=start,
                    after_step=after_step,
                    warn=recording.warn,
                    note=recording.note,
                    known_every=recording.options["checkpoint_every"],
                )
                recording.end(summary)
    except (Interrupted, KeyboardInterrupt):
        history.status = "stopped"
        return history
    history.status = "finished"
    return history


def _objective(choice: Any, cost: CostLike | None, dataset: Dataset) -> AbstractObjective:
    """The learning signal: the objective, or the targets under a cost."""
    if choice is None:
        named = cost or ("cross-entropy" if dataset.has_labels else "squared-error")
        return Supervised(resolve("cost", named))
    if not isinstance(choice, AbstractObjective):
        raise InputError(
            f"objective is {type(choice).__name__}; give a bioplaus.training.AbstractObjective, "
            "e.g. voting.NashMD(judge, tau=0.05)"
        )
    if cost is not None:
        raise InputError(
            f"cost={cost!r} has no effect with an objective, which gives the slope at the outputs "
            "itself; leave one out"
        )
    return choice


def _dataset(data: Any, field: VectorField) -> Dataset:
    try:
        return resolve("dataset", data, dtype=field.dtype)
    except InputError as error:
        text = (
            str(error).replace("dataset is", "data is", 1).replace("<lambda> gave", "data has", 1)
        )
        raise InputError(text) from None


def _require_numbers(least: float | None = None, **given: Any) -> None:
    """Reject arguments that are not numbers above zero (or at least `least`)."""
    for name, value in given.items():
        real = isinstance(value, int | float) and not isinstance(value, bool)
        legal = real and (value > 0 if least is None else value >= least) and value < math.inf
        if value is not None and not legal:
            raise InputError(
                f"{name}={value!r} must be a number {'>' if least is None else '>='} 0"
            )


def _require_whole(**given: Any) -> None:
    """Reject arguments that are not whole numbers of at least 1."""
    for name, value in given.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value is not None and not whole:
            raise InputError(f"{name}={value!r} must be a whole number of at least 1")


def _callbacks(given: Any) -> tuple[Callable[[Any], Any], ...]:
    listed = (given,) if callable(given) or not isinstance(given, Iterable) else tuple(given)
    for each in listed:
        if not callable(each):
            raise InputError(
                f"callbacks={given!r}: {each!r} cannot be called; give functions of a row"
            )
    return listed


def _rule(
    choice: EstimatorLike,
    settling: Settling | None,
    solver: str | AbstractSolver | type[AbstractSolver] | None,
    gate: float | None,
    seed: int,
) -> AbstractEstimator:
    """The estimator with its phases, its gate and its random numbers."""
    rule = resolve("estimator", choice)
    chosen = settling or (SETTLING if rule.settling == Settling() else rule.settling)
    if solver is not None:
        chosen = dataclasses.replace(chosen, solver=resolve("solver", solver))
    own: dict[str, Any] = {"settling": chosen, "gate": gate}
    if gate is None:
        own["gate"] = GATE if math.isinf(rule.gate) else rule.gate
    if getattr(rule, "generator", True) is None:
        own["generator"] = generator(seed, "nudging")
    return dataclasses.replace(rule, **own)


def _optimizer(
    choice: Any, field: VectorField, settings: dict[str, Any]
) -> tuple[Optimizer, dict[str, Any]]:
    """The optimizer, and its settings for the log."""
    if isinstance(choice, Optimizer):
        own = field.parameters
        if choice.params.keys() != own.keys() or any(
            p is not own[k] for k, p in choice.params.items()
        ):
            raise InputError(
                "optimizer moves other tensors than the field's: make it of field.parameters, "
                "Optimizer(field.parameters, learning_rate=...)"
            )
        if settings["learning_rate"] is not None:
            raise InputError("learning_rate is that of the optimizer; give it there alone")
        return choice, optimizer_settings(choice)
    if settings["learning_rate"] is None:
        settings["learning_rate"] = RATES.get(choice, RATE) if isinstance(choice, str) else RATE
    if isinstance(choice, str) and choice not in METHODS and not names_code(choice):
        raise unknown("optimizer", choice, METHODS)
    made = resolve("optimizer", choice, params=field.parameters, **settings)
    kept = {k: v for k, v in settings.items() if k != "total_steps"}
    return made, {"method": made.method, **kept}
