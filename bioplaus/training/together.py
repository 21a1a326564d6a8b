"""Train many runs at once; runs at the same step share one batched program of updates."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bioplaus.config import EqpropConfig
from bioplaus.device.recorder import AbstractRecorder
from bioplaus.engines import Brian2
from bioplaus.errors import InputError
from bioplaus.estimators import AsymEP, VectorFieldEP
from bioplaus.fields import ensemble
from bioplaus.solvers import SymmetricSweeps
from bioplaus.training.joint import Apart, Joint
from bioplaus.training.loop import Course
from bioplaus.training.run import Run
from bioplaus.training.updates import AbstractUpdates, Ask, StepByStep, chosen, unfit
from bridge.config import flatten

FREE = (
    "seed",
    "network.angle",
    "network.asymmetry",
    "network.feedback_gain",
    "network.gain",
    "optimizer.learning_rate",
    "optimizer.schedule",
    "optimizer.warmup_steps",
)
"""Config keys in which runs that are trained as one program may differ."""
ESTIMATORS = (VectorFieldEP, AsymEP)
"""Estimators whose phases can be batched over many networks."""


def alike(configs: Sequence[EqpropConfig]) -> list[list[int]]:
    """Group the indices of runs that can share a program, differing only in the keys of `FREE`."""
    groups: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        kept = {k: v for k, v in flatten(config.model_dump(mode="json")).items() if k not in FREE}
        groups.setdefault(json.dumps(kept, sort_keys=True), []).append(number)
    return list(groups.values())


def require_joinable(run: Run) -> None:
    """Reject a run that cannot be trained together with others.

    Raises:
        InputError: one line that gives the reason, what is possible, and the remedy.
    """
    reason = unfit(run)
    if isinstance(run.estimator.settling.solver, Brian2):
        reason = "phases.engine=brian2 simulates one network"
    elif isinstance(run.estimator.settling.solver, SymmetricSweeps):
        reason = "phases.solver=symmetric-sweeps serves one network"
    elif type(run.estimator) not in ESTIMATORS:
        legal = " and ".join(kind.name for kind in ESTIMATORS)
        reason = f"estimator.name={run.estimator.name} is none of {legal}"
    elif (found := ensemble.unfit(run.field)) is not None:
        reason = f"{found}; networks of dense layers (network.field=leaky) can"
    if reason is not None:
        raise InputError(f"--together: {reason}; leave --together out for a process a run")


@dataclass
class Member:
    """One of many runs that are trained together.

    Attributes:
        run: the run to train.
        course: its training, not yet started; see `loop.course`.
        value: the result of the course once it has ended.
        error: the error with which it failed, if any.
    """

    run: Run
    course: Course
    value: Any = None
    error: Exception | None = None
    ended: bool = field(default=False, init=False)
    _ask: Ask | None = field(default=None, init=False)

    @property
    def ask(self) -> Ask:
        """Its current request."""
        assert self._ask is not None
        return self._ask

    def go(self, step: Callable[[], Ask]) -> None:
        """Advance the course to its next request or to its end."""
        try:
            self._ask = step()
        except StopIteration as end:
            self.value, self.ended = end.value, True
        except Exception as error:  # the other runs continue
            self.error, self.ended = error, True


def train_together(
    members: Sequence[Member],
    *,
    recorder: AbstractRecorder | None = None,
    known_every: int | None = None,
) -> Iterator[list[Member]]:
    """Train many runs at once, step by step; yield those that end after each step.

    Each run gets the same rows as if it were trained alone, up to rounding, since its batches, its
    learning rates and its random numbers are its own. If one fails, the others continue. If runs
    are at different steps, as after a resumption, those behind proceed alone until they catch up.

    Args:
        members: runs that pass `require_joinable` and differ only in the keys of `FREE`.
        recorder: records updates in place of CUDA graphs, also on a CPU.
        known_every: see `loop.train`.
    """
    living, joint = list(members), None
    alone: dict[int, AbstractUpdates] = {}
    try:
        for each in living:
            each.go(partial(next, each.course))
        while living:
            ended = [each for each in living if each.ended]
            if ended:
                living, joint = [each for each in living if not each.ended], None
                alone.clear()
                yield ended
                continue
            due = _due(living)
            if joint is None and _joinable(due, living):
                joint = Joint([each.run for each in due], _noting(due), recorder, known_every)
            answers = _answers(joint, due) if joint and due == living else None
            for place, each in enumerate(due):
                if answers is not None:
                    each.go(answers[place])
                    continue
                if id(each) not in alone:
                    alone[id(each)] = _updates(each, len(living), recorder, known_every)
                each.go(_answered(each, lambda each=each: alone[id(each)].answer(each.ask)))
            yield []
    except BaseException as error:
        for each in living:  # let each close its resources
            with contextlib.suppress(BaseException):
                each.course.throw(error)
        raise


def _due(living: Sequence[Member]) -> list[Member]:
    """The members that are furthest behind and have the same request."""
    first = min(living, key=lambda each: (each.ask.step, each.ask.rows is None)).ask
    kind = _kind(first)
    return [each for each in living if each.ask.step == first.step and _kind(each.ask) == kind]


def _kind(ask: Ask) -> int:
    return -1 if ask.rows is None else len(ask.rows)


def _joinable(due: Sequence[Member], living: Sequence[Member]) -> bool:
    """Whether all are at the same step, after the first, which creates the optimizer's buffers."""
    return len(due) == len(living) > 1 and all(each.run.optimizer.steps for each in due)


def _updates(
    member: Member, living: int, recorder: AbstractRecorder | None, known_every: int | None
) -> AbstractUpdates:
    """Make the updates of a member that proceeds alone; the last one runs like an ordinary run."""
    if living > 1:
        return StepByStep(member.run)
    return chosen(member.run, member.ask.note, recorder, known_every)


Next = Callable[[], Ask]
"""Advances a course."""


def _answered(member: Member, answer: Callable[[], Any]) -> Next:
    """Send a course its answer, or throw the error that occurred."""
    try:
        return partial(member.course.send, answer())
    except Exception as error:
        return partial(member.course.throw, error)


def _answers(joint: Joint, due: Sequence[Member]) -> list[Next] | None:
    """The same for joined runs; None if they must be answered separately."""
    try:
        answers = joint.answer([each.ask for each in due])
    except Apart:
        return None
    except Exception as error:  # the failing run is unknown
        return [partial(each.course.throw, error) for each in due]
    return [partial(e.course.send, answer) for e, answer in zip(due, answers, strict=True)]


def _noting(members: Sequence[Member]) -> Callable[[str], None]:
    def note(text: str) -> None:
        for each in members:
            each.ask.note(text)

    return note
