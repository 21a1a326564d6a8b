"""Do the updates of several runs at the same step as one batched program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bioplaus.data import batches
from bioplaus.device.program import NotRecordable, Program
from bioplaus.device.recorder import AbstractRecorder, CudaRecorder
from bioplaus.fields import LayeredField
from bioplaus.fields.ensemble import Ensemble
from bioplaus.measuring import measures
from bioplaus.phases import free_phase
from bioplaus.sharding import Shards
from bioplaus.training.run import Run
from bioplaus.training.updates import (
    BLOCK,
    AbstractUpdates,
    Ask,
    Recorded,
    measured,
    stability_of,
    update_of,
)
from bridge.distributed import Group
from bridge.optim import Joined


class Joint:
    """The joint updates of several runs at the same step, with their weights stacked."""

    def __init__(
        self,
        runs: Sequence[Run],
        note: Callable[[str], None],
        recorder: AbstractRecorder | None = None,
        every: int | None = None,
    ) -> None:
        """Join runs; their parameters and buffers become parts of the joined ones.

        Args:
            runs: runs at the same step, after their first one.
            note: called with a line on how updates are done.
            recorder, every: see `updates.chosen`.
        """
        self.runs, first = list(runs), runs[0]
        assert isinstance(first.field, LayeredField)
        optimizer = Joined([run.optimizer for run in runs])
        many = Ensemble(first.field, optimizer.params)
        shards = Shards(many, 1, Group())
        run = dataclasses.replace(first, field=many, optimizer=optimizer, shards=shards)
        self._run, self._field, self._recorder = run, many, recorder
        self._updates: AbstractUpdates = StepJoint(run)
        note(f"updates are those of {len(runs)} runs together")
        if recorder is not None or first.device.type == "cuda":
            self._recorder = recorder or CudaRecorder()
            block = min(BLOCK, every or BLOCK)
            self._updates = Recorded(run, self._recorder, note, block, self._updates)

    def answer(self, asks: Sequence[Ask]) -> list[Any]:
        """Answer the request of each run.

        Raises:
            Apart: the runs must be answered separately; nothing has changed.
        """
        rows = [ask.rows for ask in asks if ask.rows is not None]
        if not rows:
            return self._measured()
        every = torch.stack(rows, 1).flatten()  # interleave the runs
        known = self._updates.step(every, now=any(ask.now for ask in asks))
        return [[done[place] for done in known] for place in range(len(self.runs))]

    def _measured(self) -> list[dict[str, float]]:
        """The measures of each run; on a GPU the test images of all runs form one batch."""
        errors = None if self._recorder is None else self._error_rates(self._recorder)
        if errors is None:
            return [measured(run) for run in self.runs]
        each = zip(self.runs, errors, strict=True)
        return [{"stability": stability_of(run), "test_error": error} for run, error in each]

    def _error_rates(self, recorder: AbstractRecorder) -> list[float] | None:
        """The error rate of each run in percent; None if the runs must compute it separately."""
        run, found = self._run, []
        data, members, config = run.dataset, len(self.runs), run.config
        if not len(data.test) or not data.has_labels or config.test_mirrored:
            return None

        def wrong() -> Tensor:
            count = torch.zeros(members, dtype=torch.int64, device=run.device)
            for rows in batches(len(data.test), config.evaluation_batch):
                rows = rows.to(run.device)
                x = data.test.inputs[rows].repeat_interleave(members, 0)
                outputs = free_phase(self._field, x, settling=run.estimator.settling).s
                guessed = outputs[:, self._field.output].argmax(1).view(-1, members)
                count += (guessed != data.test.targets[rows][:, None]).sum(0)
            return count

        try:
            if not Program(recorder, wrong, found.append).do():
                return None  # a row needs smaller steps
        except NotRecordable:
            return None
        return [100.0 * count / len(data.test) for count in found[0].tolist()]


class Apart(Exception):
    """A joint update would fail for some runs, which must raise the error themselves."""


class StepJoint(AbstractUpdates):
    """Step-by-step updates of joined runs."""

    def __init__(self, run: Run) -> None:
        """Set the joined run."""
        super().__init__(run)
        self._out = {name: torch.empty_like(p) for name, p in run.field.parameters.items()}

    def step(self, rows: Tensor, *, now: bool) -> list[list[Any]]:
        run, optimizer = self._run, self._run.optimizer
        x, y = run.more.inputs(rows), run.more.targets(rows)
        found = run.estimator(run.field, x, y, run.cost, out=self._out)
        updates, lost = optimizer.clipped_on_device(found.updates)
        if lost is not None and int(lost):
            raise Apart
        numbers = measures(run.field, run.cost, found, y, optimizer.members).tolist()
        rates = optimizer.learning_rates
        like = next(iter(updates.values()))
        optimizer.step_on_device(updates, torch.tensor(rates, dtype=like.dtype).to(like.device))
        optimizer.counted()
        return [update_of(run, len(rows), rates, numbers)]
