"""The interfaces of fixed-point solvers: dynamics, solutions, and the status of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar, Self

import torch
from torch import Tensor

from bioplaus.calling import Answered
from bioplaus.comparing import Alike
from bioplaus.costs import AbstractCost
from bioplaus.fields.base import VectorField


class Status(IntEnum):
    """How the search for one row's fixed point ended."""

    CONVERGED = 0
    MAX_STEPS = 1
    UNSTABLE = 2
    DIVERGED = 3
    NON_FINITE = 4

    @property
    def message(self) -> str:
        """Cause and remedy."""
        return {
            Status.CONVERGED: "converged",
            Status.MAX_STEPS: "the step limit came before the tolerance: allow more steps, loosen "
            "the tolerance, or make the network contract (weaker feedback, clipped states)",
            Status.UNSTABLE: "the state rests at a point that the network leaves when it is "
            "disturbed: use weaker weights, or start the phase elsewhere",
            Status.DIVERGED: "the state grew without bound: use smaller weights or learning rate, "
            "weaker feedback, clipped states, or a smaller dt",
            Status.NON_FINITE: "the state or a weight is NaN or infinite: use a smaller learning "
            "rate, or check the input for NaN",
        }[self]


class AbstractDynamics(ABC):
    """A batch of autonomous vector fields F(s), one per row, whose zeros a solver seeks."""

    groups: tuple[tuple[int, ...], ...]
    """Groups of layers that can be settled at once, in the order in which to settle them."""
    order: tuple[int, ...]
    """All layers, in the order in which the phase's signal crosses the network."""

    resting: frozenset[int] = frozenset()
    """Layers that send no signal yet, because they have no state yet or are still at d = 0."""

    keeps: bool = False
    """Whether to keep the `currents` of what is computed next: a check of the rows follows."""

    def links(self) -> frozenset[tuple[int, int]] | None:
        """Pairs (source, layer) of a chain, where each layer acts on neighbours alone, or None."""
        return None

    def boxed(self) -> Sequence[int]:
        """The layers whose slope at s* is read from their current; none in a nudged phase."""
        return ()

    def currents(self) -> Tensor | None:
        """The currents of layers with a box where F was last computed, [B, n], if they are kept."""
        return None

    def from_rest(self) -> Self:
        """The same dynamics, for a search that starts before any layer has sent a signal."""
        return self

    @property
    def depth(self) -> int:
        """Steps of all units at once after which a signal has crossed the network."""
        return len(self.order)

    def scale(self, size: Tensor) -> Tensor:
        """The scale relative to which ||F(s)|| must be small, [B]: by default `size` = ||s||."""
        return size

    @abstractmethod
    def force(self, s: Tensor, out: Tensor) -> Tensor:
        """F(s) [B, n], written to `out`."""

    @abstractmethod
    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        """F(s) [B, n], if `settle(s, groups[-1])` was the last call that changed `s`."""

    @abstractmethod
    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        """Move one group's columns of `s` in place to where F vanishes, the others held fixed."""

    @abstractmethod
    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        """Add one group's columns of `step` [B, n] to `s`, in place, within the state space.

        A step of F(s) settles the group, up to the curvature of the cost.
        """

    def arranged(self, rows: Tensor) -> Tensor:
        """Order row indices so that `take` is fastest; the default leaves them as they are."""
        return rows

    @abstractmethod
    def take(self, rows: Tensor) -> AbstractDynamics:
        """The same dynamics for some of the rows, given by index; a row may occur many times."""

    def worth_taking(self, left: int, rows: int) -> bool:
        """Whether computing `left` rows separately is cheaper than all `rows` of the batch."""
        return left < rows

    @abstractmethod
    def precise(self) -> AbstractDynamics:
        """The same dynamics in double precision."""


@dataclass
class Carry:
    """A solver's memory between steps.

    Attributes:
        force: F at the current state, [B, n].
        fresh: whether it is up to date.
        currents: the currents of layers with a box at the last `measure`, [B, n]; None if they
            were not kept.
    """

    force: Tensor
    fresh: bool = False
    currents: Tensor | None = None

    def take(self, rows: Tensor) -> Carry:
        return Carry(self.force.index_select(0, rows), self.fresh)


class AbstractSolver(metaclass=Answered):
    """One kind of step toward F(s) = 0; the loop around it is `solvers.loop.solve`.

    Attributes:
        damped: whether rows that make no progress are retried with smaller steps.
        from_rest: whether its first pass needs no states to start from in a chain of layers.
        absolute: whether it works on states even where deviations from the free state are
            requested.
        of_loops: settings that have no effect where no unit acts on another.
    """

    damped: ClassVar[bool] = True
    from_rest: ClassVar[bool] = False
    absolute: ClassVar[bool] = False
    of_loops: ClassVar[tuple[str, ...]] = ()

    @property
    def pace(self) -> float:
        """The length of a step, where a full step of F is one."""
        return 1.0

    def unfit(self, estimator: str, field: VectorField, cost: AbstractCost) -> str | None:
        """One line on why it cannot settle an estimator's phases of a field, or None if it can."""
        return None

    def init(self, dynamics: AbstractDynamics, s: Tensor) -> Carry:
        """Create the memory for a search that starts at `s`."""
        return Carry(torch.empty_like(s))

    @abstractmethod
    def reach(self, dynamics: AbstractDynamics) -> int:
        """Number of steps after which a signal has crossed the network; no row ends earlier."""

    def measure(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> Tensor:
        """F(s), stored in `carry` so that the next step need not compute it again."""
        if not carry.fresh:
            dynamics.force(s, carry.force)
            carry.fresh, carry.currents = True, dynamics.currents()
        return carry.force

    @abstractmethod
    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        """Advance `s` by one step, in place."""

    def advance(
        self,
        dynamics: AbstractDynamics,
        s: Tensor,
        carry: Carry,
        steps: int,
        most: int,
        tolerance: float,
    ) -> int:
        """Advance `s` to the next check of the residual, in place.

        Args:
            dynamics, s, carry: as for `step`.
            steps: steps until the next check, for a solver that does not monitor the residual.
            most: steps left within the limit; a solver that monitors the residual may use them all.
            tolerance: relative residual at which a solver that monitors it stops.

        Returns:
            The steps taken.
        """
        for left in reversed(range(steps)):
            dynamics.keeps = left == 0
            self.step(dynamics, s, carry)
            carry.fresh = False
        return steps


@dataclass(frozen=True, eq=False)
class Solution(Alike):
    """The result of a search, row by row.

    Attributes:
        s: the states, [B, n].
        residual: ||F(s)|| / ||s|| at the returned states, [B]; for deviations, relative to ||s*||.
        status: codes of `Status`, [B], int8.
        n_steps: steps taken, in all attempts, [B], int32.
        abscissa: largest real part of the eigenvalues of dF/ds, per unit of time, [B], float64:
            negative at an attractor. NaN for rows that did not converge; None if it was not
            computed.
        deviation: s - s* of a nudged phase, in full precision, [B, n]; None in other searches.
        currents: W rho(s) + b of the layers with a box in a free phase, [B, n]; None if the solver
            has not computed them.
    """

    s: Tensor
    residual: Tensor
    status: Tensor
    n_steps: Tensor
    abscissa: Tensor | None = None
    deviation: Tensor | None = None
    currents: Tensor | None = None

    @property
    def converged(self) -> Tensor:
        """Whether each row reached the tolerance, [B]."""
        return self.status == Status.CONVERGED

    def chunk(self, parts: int) -> list[Solution]:
        """Split the rows into `parts` equal parts, in order."""
        found = (getattr(self, f.name) for f in fields(self))
        columns = ([None] * parts if t is None else t.chunk(parts) for t in found)
        return [Solution(*part) for part in zip(*columns, strict=True)]
