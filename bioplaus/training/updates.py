"""Do the updates of a run: step by step, or as recorded programs on a GPU."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.contraction import Act
from bioplaus.device.fusing import Fused
from bioplaus.device.program import NotRecordable, Program
from bioplaus.device.recorder import AbstractRecorder, CudaRecorder
from bioplaus.diagnosis import stability
from bioplaus.engines import Brian2
from bioplaus.measuring import MEASURES, measures
from bioplaus.nudging.elementwise import compiled_by
from bioplaus.training.objective import Supervised
from bioplaus.training.run import Run

BLOCK = 50
"""Number of steps whose measures are collected before they are fetched."""


@dataclass(frozen=True)
class Update:
    """A completed update.

    Attributes:
        rows: number of rows in its batch.
        rate: its learning rate.
        values: its measures by name, of the objective and of the phases.
        act: the action taken after it to keep the field contracting, if any.
    """

    rows: int
    rate: float
    values: dict[str, float]
    act: Act | None = None


@dataclass(frozen=True)
class Ask:
    """The next request of a run.

    Attributes:
        step: number of the update, or of the last one of an epoch.
        rows: indices of the examples of the batch, on the run's device; None requests the
            measures at the end of an epoch.
        now: whether the measures of all updates so far must be known.
        note: called with a line on how updates are done.
    """

    step: int
    rows: Tensor | None
    now: bool
    note: Callable[[str], None]


class AbstractUpdates(ABC):
    """Does the updates of a run, in order."""

    def __init__(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @abstractmethod
    def step(self, rows: Tensor, *, now: bool) -> list[Any]:
        """Do an update; return, in order, those whose measures have become known.

        Args:
            rows: indices of the examples of the batch, on the run's device.
            now: whether the measures of all updates so far must be known.

        Returns:
            One `Update` each; for joined runs a list with one per run.
        """

    def measured(self) -> dict[str, float]:
        """The measures of the current field at the end of an epoch, without the means of steps."""
        return measured(self._run)

    def answer(self, ask: Ask) -> Any:
        """Answer a request: updates that have become known, or the measures of an epoch."""
        return self.measured() if ask.rows is None else self.step(ask.rows, now=ask.now)


def measured(run: Run) -> dict[str, float]:
    """The measures of a run's field at the end of an epoch, without the means of its steps."""
    return {"stability": stability_of(run), **run.objective.measured(run)}


def stability_of(run: Run) -> float:
    """The stability at the free points of some test images; see `diagnosis.stability`."""
    if isinstance(run.estimator.settling.solver, Brian2):
        return math.nan
    return stability(run.field, shown(run), run.estimator.settling)


def shown(run: Run) -> Tensor:
    """Some test images, on which the free phases are measured after each epoch."""
    return run.dataset.shown.inputs[: run.config.check_rows]


class StepByStep(AbstractUpdates):
    """Does updates one at a time; each is known when it is done."""

    def step(self, rows: Tensor, *, now: bool = True) -> list[Update]:
        run = self._run
        rate = run.optimizer.learning_rate
        with run.more.computing():
            done = run.objective.estimate(run, rows)
        run.optimizer.step(done.updates)
        run.field.constrain()
        return [Update(len(rows), rate, done.values, run.more.after_update())]


class Recorded(AbstractUpdates):
    """Does updates as programs, one per batch shape; measures are fetched once per block.

    The first update of a shape is done directly and then recorded. An update in which a row did not
    settle at the first attempt is done step by step. If some operation turns out to wait for the
    device, all further updates are done step by step.
    """

    def __init__(
        self,
        run: Run,
        recorder: AbstractRecorder,
        note: Callable[[str], None],
        block: int = BLOCK,
        plain: AbstractUpdates | None = None,
    ) -> None:
        """Set the run.

        Args:
            run: a run of one process that does not split its batches; see `chosen`.
            recorder: records the work.
            note: called with a line on what has been recorded, or why it cannot be.
            block: number of steps whose measures are collected, >= 1.
            plain: does unrecorded updates; `StepByStep` if None.
        """
        super().__init__(run)
        self._members = run.optimizer.members
        self._recorder, self._note, self._block = recorder, note, block
        self._inputs = run.dataset.train.inputs
        every = torch.arange(len(self._inputs), device=self._inputs.device)
        self._targets = run.more.targets(every)
        self._plain = plain or StepByStep(run)
        self._programs: dict[int, tuple[Tensor, Program]] = {}
        self._waiting: list[Any] = []
        like = next(iter(run.field.parameters.values()))
        of = (self._members,) if self._members else ()
        self._table = like.new_zeros(block, *of, len(MEASURES))
        self._place = torch.zeros(1, dtype=torch.long, device=like.device)
        self._rate = like.new_zeros(of)
        self._updates = {name: torch.empty_like(p) for name, p in run.field.parameters.items()}
        self._records = True
        phases = getattr(run.config, "phases", None)
        self._fused = Fused() if getattr(phases, "compile", False) else None

    def step(self, rows: Tensor, *, now: bool) -> list[Any]:
        rates = self._run.optimizer.learning_rates
        if self._records and self._by_program(rows, rates):
            self._run.optimizer.counted()
            self._waiting.append((len(rows), rates))
        else:
            self._waiting += self._plain.step(rows, now=True)
        if now or len(self._waiting) >= self._block or not self._records:
            return self._fetched()
        return []

    def _by_program(self, rows: Tensor, rates: list[float]) -> bool:
        """Do an update by its program; return whether it was done."""
        if self._members:
            self._rate.copy_(torch.tensor(rates, dtype=self._rate.dtype))
        else:
            self._rate.fill_(rates[0])
        try:
            if len(rows) not in self._programs:
                return self._first_of(rows)
            place, program = self._programs[len(rows)]
            place.copy_(rows, non_blocking=True)
            return program.run()
        except NotRecordable as reason:
            self._give_up(reason)
            return False

    def _first_of(self, rows: Tensor) -> bool:
        """Do the first update with this number of rows, and record it for the next ones."""
        if not self._run.optimizer.steps:
            return False  # the optimizer creates its buffers in the first step
        place = rows.to(self._inputs.device, copy=True)
        program = self._program(place)
        done = program.do()
        try:
            program.record()
        except NotRecordable as reason:
            self._give_up(reason)
            return done
        self._programs[len(rows)] = place, program
        loops = f" with {program.loops} loops that end on the {program.ends}"
        loops = loops if program.loops else ""
        if self._fused is not None:
            loops += f"; torch.compile has taken {self._fused.seconds:.0f} s"
            if left := dict.fromkeys(self._fused.left):
                loops += f" and leaves as they are: {', '.join(left)}"
        many = f"{self._members} runs, " if self._members else ""
        count = len(rows) // (self._members or 1)
        self._note(f"updates of {many}{count} rows are recorded as one program{loops}")
        return done

    def _give_up(self, reason: NotRecordable) -> None:
        self._records = False
        self._note(f"updates are done step by step: {reason}")

    def _program(self, place: Tensor) -> Program:
        """Make the program of an update on the examples whose indices `place` holds."""
        run = self._run

        fused = self._fused

        def estimate() -> tuple[dict[str, Tensor], Tensor]:
            x, y = self._inputs.index_select(0, place), self._targets.index_select(0, place)
            with compiled_by(fused.compiled) if fused else contextlib.nullcontext():
                found = run.estimator(run.field, x, y, run.cost, out=self._updates)
            updates, lost = run.optimizer.clipped_on_device(found.updates)
            if lost is not None:
                program.doubt(lost)
            return dict(updates), measures(run.field, run.cost, found, y, self._members)

        def move(given: tuple[dict[str, Tensor], Tensor]) -> None:
            updates, numbers = given
            run.optimizer.step_on_device(updates, self._rate)
            run.field.constrain()
            self._table.index_copy_(0, self._place, numbers[None])
            self._place.add_(1)

        program = Program(self._recorder, estimate, move, fused)
        return program

    def _fetched(self) -> list[Any]:
        """All pending updates, with the measures collected on the device."""
        gathered = sum(isinstance(each, tuple) for each in self._waiting)
        numbers = iter(self._recorder.fetch(self._table)() if gathered else [])
        self._place.zero_()
        found = [
            update_of(self._run, each[0], each[1], next(numbers))
            if isinstance(each, tuple)
            else each
            for each in self._waiting
        ]
        self._waiting = []
        return found


def update_of(run: Run, rows: int, rates: Sequence[float], numbers: Sequence[Any]) -> Any:
    """Make the `Update` of a step; for joined runs a list, one per run.

    Args:
        run: the run that was trained.
        rows: number of rows in its batch; for joined runs, of all together.
        rates: learning rates, one per run.
        numbers: its MEASURES, see `measures`.
    """
    members, lacking = run.optimizer.members, {} if run.dataset.has_labels else _NO_LABELS
    own, each = (rows // members, numbers) if members else (rows, [numbers])
    found = [
        Update(own, rate, dict(zip(MEASURES, values, strict=True)) | lacking)
        for rate, values in zip(rates, each, strict=True)
    ]
    return found if members else found[0]


_NO_LABELS = {"train_error": math.nan}


def chosen(
    run: Run,
    note: Callable[[str], None],
    recorder: AbstractRecorder | None = None,
    every: int | None = None,
) -> AbstractUpdates:
    """Choose how to do a run's updates: recorded if it computes on a GPU, else step by step.

    Args:
        run: the run to train.
        note: called with a line on what has been recorded, or why it cannot be.
        recorder: records in place of CUDA graphs, also on a CPU.
        every: steps after which all updates must be known, see `train`.
    """
    if recorder is None and run.device.type != "cuda":
        return StepByStep(run)
    if reason := unfit(run):
        note(f"updates are done step by step: {reason}")
        return StepByStep(run)
    return Recorded(run, recorder or CudaRecorder(), note, min(BLOCK, every or BLOCK))


def unfit(run: Run) -> str | None:
    """Why a run's updates cannot be recorded; None if there is no known reason."""
    config = run.config
    if type(run.objective) is not Supervised:
        return f"the objective {run.objective.name} is asked by the host"
    if config.augment.made().acts:
        return "augment draws on the host how pictures are changed"
    if config.contraction.made().acts:
        return "contraction is looked at by the host"
    if config.average is not None or config.products != "full":
        return "average and products are not part of a program"
    if run.shards.count > 1:
        return f"batches are estimated in micro_shards={run.shards.count}"
    if getattr(run.estimator, "nudging", None) == "random-sign":
        return "nudging=random-sign draws its signs on the host"
    return None
