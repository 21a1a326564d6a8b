"""How the updates of a run are done: step by step, or as recorded programs on a GPU."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.contraction import Act
from bioplaus.device.program import NotRecordable, Program
from bioplaus.device.recorder import AbstractRecorder, CudaRecorder
from bioplaus.diagnosis import stability
from bioplaus.engines import Brian2
from bioplaus.measuring import MEASURES, measures
from bioplaus.training.objective import Supervised
from bioplaus.training.run import Run

BLOCK = 50
"""Steps whose measures are gathered before they are fetched."""


@dataclass(frozen=True)
class Update:
    """One update that is done.

    Attributes:
        rows: of its batch.
        rate: the learning rate that it had.
        values: its measures by name, those of the objective and the phases'.
        act: what was done after it to keep the field contracting, if anything.
    """

    rows: int
    rate: float
    values: dict[str, float]
    act: Act | None = None


@dataclass(frozen=True)
class Ask:
    """What a run asks for next.

    Attributes:
        step: the update's number, or that of the last one of an epoch.
        rows: the examples of the batch, by index, where the run computes; None asks for what is
            measured at the end of an epoch.
        now: whether all updates so far must be known.
        note: told in a line how updates are done.
    """

    step: int
    rows: Tensor | None
    now: bool
    note: Callable[[str], None]


class AbstractUpdates(ABC):
    """Does the updates of a run, in order."""

    def __init__(self, run: Run) -> None:
        """Take hold of the run."""
        self._run = run

    @abstractmethod
    def step(self, rows: Tensor, *, now: bool) -> list[Any]:
        """Do an update; give those, in order, of which all has become known.

        Args:
            rows: the examples of the batch, by index, where the run computes.
            now: whether all so far must be known.

        Returns:
            An `Update` each; of joined runs a list of each one's.
        """

    def measured(self) -> dict[str, float]:
        """What the end of an epoch tells of the field as it is, beside the means of its steps."""
        return measured(self._run)

    def answer(self, ask: Ask) -> Any:
        """What is asked for: updates that have become known, or the measures of an epoch."""
        return self.measured() if ask.rows is None else self.step(ask.rows, now=ask.now)


def measured(run: Run) -> dict[str, float]:
    """What the end of an epoch tells of a run's field, beside the means of its steps."""
    return {"stability": stability_of(run), **run.objective.measured(run)}


def stability_of(run: Run) -> float:
    """Of the free points of some test images, if there are any; see `diagnosis.stability`."""
    if isinstance(run.estimator.settling.solver, Brian2):
        return math.nan
    return stability(run.field, shown(run), run.estimator.settling)


def shown(run: Run) -> Tensor:
    """Some test images, on which an epoch's free phases are looked at."""
    return run.dataset.shown.inputs[: run.config.check_rows]


class StepByStep(AbstractUpdates):
    """Each update is known when it is done."""

    def step(self, rows: Tensor, *, now: bool = True) -> list[Update]:
        run = self._run
        rate = run.optimizer.learning_rate
        with run.more.computing():
            done = run.objective.estimate(run, rows)
        run.optimizer.step(done.updates)
        run.field.constrain()
        return [Update(len(rows), rate, done.values, run.more.after_update())]


class Recorded(AbstractUpdates):
    """Updates as programs, one a shape of batch; measures are fetched a block at a time.

    The first update of a shape is done as it is and then recorded. An update of which a row did not
    settle at the first attempt is done step by step, as is all once something turns out to wait for
    the device.
    """

    def __init__(
        self,
        run: Run,
        recorder: AbstractRecorder,
        note: Callable[[str], None],
        block: int = BLOCK,
        plain: AbstractUpdates | None = None,
    ) -> None:
        """Take hold of the run.

        Args:
            run: of one process, with its batches whole; see `chosen`.
            recorder: what notes work.
            note: told in a line what has been recorded, or why it cannot be.
            block: steps whose measures are gathered, >= 1.
            plain: what does updates unrecorded; `StepByStep` if None.
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
        """Do an update by its program; give whether it was done."""
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
        """Do the first update of so many rows, and record it for the next ones."""
        if not self._run.optimizer.steps:
            return False  # the optimizer makes its buffers in its first step
        place = rows.to(self._inputs.device, copy=True)
        program = self._program(place)
        done = program.do()
        try:
            program.record()
        except NotRecordable as reason:
            self._give_up(reason)
            return done
        self._programs[len(rows)] = place, program
        loops = f" with {program.loops} loops" if program.loops else ""
        many = f"{self._members} runs, " if self._members else ""
        count = len(rows) // (self._members or 1)
        self._note(f"updates of {many}{count} rows are recorded as one program{loops}")
        return done

    def _give_up(self, reason: NotRecordable) -> None:
        self._records = False
        self._note(f"updates are done step by step: {reason}")

    def _program(self, place: Tensor) -> Program:
        """The update of the examples whose indices stand at a place."""
        run = self._run

        def estimate() -> tuple[dict[str, Tensor], Tensor]:
            x, y = self._inputs.index_select(0, place), self._targets.index_select(0, place)
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

        program = Program(self._recorder, estimate, move)
        return program

    def _fetched(self) -> list[Any]:
        """All updates that are waiting, with the measures that the device has gathered."""
        gathered = sum(isinstance(each, tuple) for each in self._waiting)
        numbers = iter(self._recorder.fetch(self._table)() if gathered else [])
        self._place.zero_()
        found = [
            told_of(self._run, each[0], each[1], next(numbers)) if isinstance(each, tuple) else each
            for each in self._waiting
        ]
        self._waiting = []
        return found


def told_of(run: Run, rows: int, rates: Sequence[float], numbers: Sequence[Any]) -> Any:
    """An update as it is told; of joined runs a list, one a run.

    Args:
        run: that was trained.
        rows: of its batch, of joined runs those of all together.
        rates: learning rates, one a run.
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
    """How a run's updates are done: recorded where it computes on a GPU, else step by step.

    Args:
        run: what is trained.
        note: told in a line what has been recorded, or why it cannot be.
        recorder: in place of CUDA graphs, also on a CPU.
        every: steps after which all must be known, see `train`.
    """
    if recorder is None and run.device.type != "cuda":
        return StepByStep(run)
    if reason := unfit(run):
        note(f"updates are done step by step: {reason}")
        return StepByStep(run)
    return Recorded(run, recorder or CudaRecorder(), note, min(BLOCK, every or BLOCK))


def unfit(run: Run) -> str | None:
    """Why a run's updates cannot be recorded; None where nothing is known against it."""
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
