"""An update as a program: recorded parts, and between them loops that settle rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.device import resident
from bioplaus.device.recorder import AbstractRecorder, Replay
from bioplaus.solvers import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.entry import settled_by
from bioplaus.solvers.masked import Judging, MaskedSearch
from bioplaus.solvers.masked import unfit as unfit_search

LOOKS = 2
"""Number of checks in one replay of a loop; the host sees their results one replay later."""


class NotRecordable(Exception):
    """The reason why work cannot be recorded and must be done step by step."""


@dataclass(frozen=True)
class _Loop:
    """Checks to repeat while rows go on; see `MaskedSearch.waiting`."""

    again: Replay
    waiting: Tensor


@dataclass(frozen=True)
class _Check:
    """Counts that must all be zero for the work to continue."""

    counts: Tensor


class Program:
    """Work with phases in it, which is done once directly, then recorded and replayed.

    The work has two halves. Between them the host checks whether every row settled at the first
    attempt. If not, the second half is skipped, and the caller does the whole work step by step
    from an unchanged state. The host waits only for these counts.

    If the device can skip and repeat work itself, everything is one recording: the loops end and
    the second half is skipped on the device, and the host reads the counts at the end.

    Attributes:
        loops: number of recorded loops.
        ends: where they end: on the "device", or on the "host" if one of them does.
    """

    def __init__(
        self,
        recorder: AbstractRecorder,
        first: Callable[[], Any],
        second: Callable[[Any], None],
        judging: Judging | None = None,
    ) -> None:
        """Set the two halves; the second receives the result of the first.

        Args:
            recorder: records work.
            first: must not change anything that it reads, so that it can be repeated; gets fixed
                points from `entry.solve`.
            second: makes the changes that are the purpose of the work.
            judging: checks the rows of a loop, see `MaskedSearch`.
        """
        self._judging = judging
        self._recorder, self._first, self._second = recorder, first, second
        self._parts: list[Replay | _Loop | _Check] = []
        self._counts: list[Tensor] = []
        self.loops, self.ends = 0, "device"

    @property
    def recorded(self) -> bool:
        """Whether `run` can be called."""
        return bool(self._parts)

    def doubt(self, count: Tensor) -> None:
        """Register, in the first half, a count that must be zero for the second half to run."""
        self._counts.append(count)

    def do(self) -> bool:
        """Do the work once without recording; return whether every row settled.

        Raises:
            NotRecordable: something in it could not be recorded.
        """
        self._counts = []
        with settled_by(self._settle_now):
            given = self._first()
        if any(int(count) for count in self._counts):
            return False
        self._second(given)
        return True

    def record(self) -> None:
        """Record the work without doing it.

        Raises:
            NotRecordable: something in it waits for the device; the message says what.
        """
        self._counts, self._parts, self.loops, self.ends = [], [], 0, "device"
        try:
            self._recorder.begin()
            with settled_by(self._settle_in_parts):
                given = self._first()
                if self._counts:
                    self._record_second(given, torch.stack([c.reshape(()) for c in self._counts]))
                else:
                    self._second(given)
                    self._parts.append(self._recorder.end())
        except BaseException as error:
            self._parts = []
            self._recorder.abandon()
            if isinstance(error, RuntimeError | NotRecordable):
                raise NotRecordable(str(error).partition("\n")[0]) from None
            raise

    def _record_second(self, given: Any, counts: Tensor) -> None:
        """Record the second half, which is done only if all counts are zero."""
        if self._recorder.branches:
            with self._recorder.only_if((counts == 0).all()):
                self._second(given)
            self._parts += [self._recorder.end(), _Check(counts)]
            return
        self._parts += [self._recorder.end(), _Check(counts)]
        self._recorder.begin()
        self._second(given)
        self._parts.append(self._recorder.end())

    def run(self) -> bool:
        """Replay the work; return whether every row settled, so that all of it was done."""
        for part in self._parts:
            if isinstance(part, _Loop):
                if not self._settled(part):
                    return False
            elif isinstance(part, _Check):
                if any(self._recorder.fetch(part.counts)()):
                    return False
            else:
                part()
        return True

    def _settled(self, loop: _Loop) -> bool:
        """Replay checks until no row goes on, always one replay ahead of the known results."""
        while True:
            fetched = self._recorder.fetch(loop.waiting)
            loop.again()
            going, failed = fetched()
            if failed or not going:
                return not failed

    def _settle_now(
        self, dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
    ) -> Solution:
        if (found := self._by_kernel(dynamics, start, solver, **limits)) is not None:
            return found
        search = self._search(dynamics, start, solver, **limits)
        while int(search.waiting[0]):
            search.look_again()
        self.doubt(search.waiting[1])
        return search.solution()

    def _settle_in_parts(
        self, dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
    ) -> Solution:
        if (found := self._by_kernel(dynamics, start, solver, **limits)) is not None:
            return found
        search = self._search(dynamics, start, solver, **limits)
        if limits["tolerance"] > 0:
            self._record_loop(search)
            self.loops += 1
        return search.solution()

    def _record_loop(self, search: MaskedSearch) -> None:
        def again() -> None:
            for _ in range(LOOKS):
                search.look_again()

        most = math.ceil(search.limits.max_steps / search.check_every / LOOKS)
        if self._recorder.branches and most <= self._recorder.longest:
            self._recorder.repeat(again, search.going, most)
            self.doubt(search.waiting[1])
            return
        self.ends = "host"
        self._parts.append(self._recorder.end())
        self._recorder.begin()
        again()
        self._parts.append(_Loop(self._recorder.end(), search.waiting))
        self._recorder.begin()

    def _search(
        self,
        dynamics: AbstractDynamics,
        start: Tensor,
        solver: AbstractSolver,
        *,
        verify: bool | None,
        **limits: Any,
    ) -> MaskedSearch:
        if reason := unfit_search(dynamics, solver, verify=verify, **limits):
            raise NotRecordable(reason)
        search = MaskedSearch(dynamics, start, solver, judging=self._judging, **limits)
        search.begin()
        return search

    def _by_kernel(
        self, dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
    ) -> Solution | None:
        """Settle a whole phase in one launch, if there is a kernel for it."""
        if not resident.serves(dynamics, start, solver, **limits):
            return None
        last = limits["tolerance"] == 0
        found = resident.settle(
            dynamics,
            start,
            tolerance=limits["tolerance"],
            max_steps=limits["max_steps"],
            last=last,
        )
        if not last:
            most = limits["max_steps"] - len(dynamics.order)
            self.doubt(((found.status != Status.CONVERGED) & (found.n_steps <= most)).sum())
        return found
