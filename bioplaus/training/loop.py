"""The training loop, which turns batches into records and is independent of files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.contraction import Act
from bioplaus.data import batches
from bioplaus.device.recorder import AbstractRecorder
from bioplaus.diagnosis import explain, find_cure, weaker_feedback
from bioplaus.gradient_check import check_gradients
from bioplaus.gradient_row import records
from bioplaus.measuring import Tally, alignments, energies
from bioplaus.solvers import Anderson, Status
from bioplaus.training.run import Run
from bioplaus.training.updates import AbstractUpdates, Ask, Update, chosen, shown
from bridge.checkpoint import loading, random_states, restore, set_random_states
from bridge.errors import RunFailed
from bridge.seeding import generator

PATIENCE = 50
"""A run fails after this many consecutive steps without any row inside the gate."""


@dataclass(frozen=True)
class Listeners:
    """The callbacks of a run; see `train`."""

    on_step: Callable[[Any], None]
    on_epoch: Callable[[Any], None]
    on_check: Callable[[Any], None] = lambda record: None
    on_act: Callable[[Act], None] = lambda act: None
    advance: Callable[[int], None] = lambda images: None
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, snapshot: None
    warn: Callable[[str], None] = lambda text: None
    note: Callable[[str], None] = lambda text: None


Course = Generator[Ask, Any, Any]
"""A running training, which yields requests and is sent the answers; see `course`."""


def train(
    run: Run,
    *,
    on_step: Callable[[Any], None],
    on_epoch: Callable[[Any], None],
    on_check: Callable[[Any], None] = lambda record: None,
    on_act: Callable[[Act], None] = lambda act: None,
    advance: Callable[[int], None] = lambda images: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, snapshot: None,
    warn: Callable[[str], None] = lambda text: None,
    note: Callable[[str], None] = lambda text: None,
    known_every: int | None = None,
    recorder: AbstractRecorder | None = None,
) -> Any:
    """Train for the config's epochs.

    Args:
        run: the result of `build`; its field learns in place.
        on_step: called with the record of every `log_every`-th step, of type `run.step_record`.
        on_epoch: called with the record of each epoch, of type `run.epoch_record`.
        on_check: called with the records of each gradient check, of type `run.check_record`.
        on_act: called each time feedback is shrunk to keep the field contracting.
        advance: called with the number of images after each step.
        start: a snapshot; training continues from it as if it had not been interrupted.
        after_step: called once all steps up to some step are done and recorded (on a CPU after
            each step), with the number of that step and a function that makes a snapshot.
        warn: called if an epoch ends with free fixed points that are not attractors.
        note: called with a line on how updates are done, unless that is step by step.
        known_every: largest number of steps between calls of `after_step`. None leaves it to the
            loop, which on a GPU calls it once per block of steps.
        recorder: records updates in place of CUDA graphs, also on a CPU.

    Returns:
        The summary of the run's objective.

    Raises:
        RunFailed: the network diverged; the message says cause and remedy.
        InputError: `start` does not fit the run.
    """
    listeners = Listeners(on_step, on_epoch, on_check, on_act, advance, after_step, warn, note)
    return follow(
        course(run, listeners, start=start, known_every=known_every),
        lambda ask: chosen(run, ask.note, recorder, known_every),
    )


def follow(course: Course, begin: Callable[[Ask], AbstractUpdates]) -> Any:
    """Answer the requests of a course until it ends, and return its result.

    Args:
        course: a course that has not started.
        begin: takes its first request and returns the object that does its updates.

    Raises:
        Exception: any error, after it has been thrown into the course.
    """
    try:
        ask, updates = next(course), None
        while True:
            try:
                updates = updates or begin(ask)
                answer = updates.answer(ask)
            except BaseException as error:  # let the course close its resources
                ask = course.throw(error)
            else:
                ask = course.send(answer)
    except StopIteration as end:
        return end.value


def course(
    run: Run,
    listeners: Listeners,
    *,
    start: Mapping[str, Any] | None = None,
    known_every: int | None = None,
) -> Course:
    """The training of a run as a generator that delegates its updates.

    It yields requests and is sent the results of `AbstractUpdates.answer`. A caller that drives
    many courses can therefore do their updates together.

    Args:
        run: the result of `build`; its field learns in place.
        listeners: the callbacks.
        start: see `train`.
        known_every: see `train`.

    Returns:
        The summary of the run's objective.

    Raises:
        RunFailed, InputError: see `train`.
    """
    config, images, more = run.config, len(run.dataset.train), run.more
    run.objective.begin(run)
    at = _Position(run) if start is None else _Position.restored(run, start)
    listeners.advance(at.images)
    check_every = config.check_gradients_every
    while at.epoch <= config.epochs:
        epoch_began = time.perf_counter() - at.epoch_seconds
        order = list(batches(images, config.batch_size, run.order))
        for place, rows in enumerate(order[at.batch :], at.batch + 1):
            step = at.step + place - at.batch
            checks = check_every and step % check_every == 0 and run.shards.writes
            measured_now = (
                checks or place == len(order) or (known_every and step % known_every == 0)
            )
            rows = rows.to(run.device)
            for done in (yield Ask(step, rows, bool(measured_now), listeners.note)):
                _take_in(run, at, done, rows, listeners, check_at=step if checks else None)
            at.epoch_seconds = time.perf_counter() - epoch_began
            if at.step < step:
                continue
            if place == len(order):
                _require_sound(run, at.step)
                with more.evaluating():
                    measured = yield Ask(step, None, True, listeners.note)
                    record = at.finish_epoch(run, measured)
                    listeners.on_epoch(record)
                    doubts = list(_doubts(record, run))
                for doubt in doubts:
                    listeners.warn(doubt)
            listeners.after_step(at.step, lambda: at.snapshot(run))
    more.end()
    return run.objective.summary(
        at.errors,
        epochs=config.epochs,
        seconds=at.seconds,
        images_per_second=config.epochs * images / at.trained,
    )


def _take_in(
    run: Run, at: _Position, done: Update, rows: Tensor, listeners: Listeners, check_at: int | None
) -> None:
    """Count and report an update; at step `check_at` compare it with the true gradient.

    Raises:
        RunFailed: too many consecutive updates had no row inside the gate.
    """
    values = at.count(done)
    if done.act is not None:
        listeners.on_act(done.act)
    if at.rejected >= PATIENCE:
        raise RunFailed(_diagnosis(run, rows, at, values))
    if at.step == check_at:
        for checked in _check(run, rows, at.step):
            listeners.on_check(checked)
    if at.step % run.config.log_every == 0:
        where = {"step": at.step, "epoch": at.epoch, "learning_rate": done.rate}
        listeners.on_step(run.step_record(**where, **values))
    listeners.advance(done.rows)


class _Position:
    """The position of a run between two steps.

    Args:
        run: a run at its start, or at the start of an epoch.
    """

    def __init__(self, run: Run) -> None:
        self.step, self.epoch, self.batch, self.images = 0, 1, 0, 0
        self.rejected = 0
        self.status = Status.CONVERGED
        self.tally = Tally()
        self.errors: dict[str, float] = {}
        self.trained = self.epoch_seconds = 0.0
        # The order of an epoch is drawn when it starts.
        self.order = run.order.get_state()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the run began, without the time between a stop and a resumption."""
        return time.perf_counter() - self._began

    def count(self, done: Update) -> dict[str, float]:
        """Count an update, and return its measures without the status."""
        values, rows = dict(done.values), done.rows
        self.status = Status(int(values.pop("status")))
        self.step += 1
        self.batch += 1
        self.images += rows
        self.rejected = 0 if values["accepted"] > 0 else self.rejected + 1
        self.tally.add(values, rows)
        return values

    def finish_epoch(self, run: Run, measured: Mapping[str, float]) -> Any:
        """Make the record of an epoch from the measures at its end, and go to the next one."""
        images = len(run.dataset.train)
        record = run.epoch_record(
            step=self.step,
            epoch=self.epoch,
            images_per_second=images / self.epoch_seconds,
            seconds=self.seconds,
            **self.tally.means(),
            **measured,
            **run.more.end_epoch(),
            **alignments(run.field),
            **energies(run.field, shown(run), run.estimator.settling),
        )
        self.errors = {n: getattr(record, n) for n in run.objective.epoch_names}
        self.trained += self.epoch_seconds
        self.epoch, self.batch, self.tally, self.epoch_seconds = self.epoch + 1, 0, Tally(), 0.0
        self.order = run.order.get_state()
        return record

    def snapshot(self, run: Run) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            **{name: getattr(self, name) for name in _COUNTERS},
            "tally": {"sums": self.tally.sums, "rows": self.tally.rows},
            "seconds": self.seconds,
            "parameters": run.field.parameters,
            "optimizer": run.optimizer.state_dict(),
            "objective": run.objective.state_dict(),
            "random": random_states(**_generators(run)) | {"order": self.order},
            **run.more.snapshot(),
        }

    @classmethod
    def restored(cls, run: Run, saved: Mapping[str, Any]) -> _Position:
        """Restore a run and its position from a snapshot.

        Raises:
            InputError: the snapshot belongs to another run.
        """
        with loading():
            restore(run.field.parameters, saved["parameters"])
            run.optimizer.load_state_dict(saved["optimizer"])
            run.objective.load_state_dict(saved.get("objective", {}))
            set_random_states(saved["random"], **_generators(run))
            run.more.restore(saved)
            at = cls(run)
            for name in _COUNTERS:
                setattr(at, name, type(getattr(at, name))(saved[name]))
            at.tally.sums = {n: float(x) for n, x in saved["tally"]["sums"].items()}
            at.tally.rows = int(saved["tally"]["rows"])
            at._began -= float(saved["seconds"])
        return at


_COUNTERS = ("step", "epoch", "batch", "images", "rejected", "errors", "trained", "epoch_seconds")


def _generators(run: Run) -> dict[str, torch.Generator]:
    estimator = run.estimator
    found = {"nudging": getattr(estimator, "generator", None), "augmenting": run.augmenting}
    found = {name: g for name, g in found.items() if g is not None}
    return {"order": run.order} | found | run.objective.generators()


def _check(run: Run, rows: Tensor, step: int) -> list[Any]:
    """Compare the run's estimator with the true gradient on the first rows of a batch.

    If a second oracle runs, the rows of the first one hold its distance.
    """
    config = run.config
    x, y, cost = run.objective.example(run, rows[: config.check_rows])
    checked = run.estimator
    if hasattr(checked, "generator"):  # leave the run's generator untouched
        drawn = generator(config.seed, "nudging")
        checked = dataclasses.replace(checked, generator=drawn)  # pyright: ignore[reportCallIssue]
    report = check_gradients(run.field, x, y, cost, [checked], seed=config.seed)
    of_first = [row for row in report.rows if row.oracle == "implicit"]
    return records(run.check_record, report.asymmetry, of_first, step)


def _doubts(record: Any, run: Run) -> Iterator[str]:
    """Yield warnings that follow from an epoch's record."""
    if record.stability >= 0:
        yield (
            f"epoch {record.epoch}: some free points do not attract (largest real part of the "
            f"Jacobian's eigenvalues {record.stability:+.2g}): the network would leave them, and "
            f"what is learnt there is not its own; use weaker {weaker_feedback(run.config)}"
        )
    # mixed states do not descend the energy
    mixed = isinstance(run.estimator.settling.solver, Anderson)
    if getattr(record, "energy_rise", 0) > 0 and not mixed:
        yield (
            f"epoch {record.epoch}: the energy rises by up to {record.energy_rise:.2g} in a step "
            "of the free phase: steps go too far (use solver=sweeps, or euler with a smaller dt), "
            "or the field does not descend it"
        )


def _diagnosis(run: Run, rows: Tensor, at: _Position, values: Mapping[str, float]) -> str:
    example = run.objective.example(run, rows)
    cure = find_cure(run.config, run.task, run.field, run.estimator, *example)
    residual = max(values["free_residual"], values["nudged_residual"])
    return explain(at.step, PATIENCE, residual, at.status, cure)


def _require_sound(run: Run, step: int) -> None:
    for name, parameter in run.field.parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise RunFailed(
                f"the network diverged: {name} is NaN or infinite at step {step}; use a smaller "
                f"learning rate ({run.config.as_written({'optimizer.learning_rate': '...'})})"
            )
    try:
        run.shards.require_equal(run.field, step)
    except ArithmeticError as error:
        raise RunFailed(str(error)) from None
