"""Layer-wise sweeps: settle groups of layers in turn, each given the newest of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Carry


@dataclass
class SweepCarry(Carry):
    """Memory of sweeps: whether the last group is settled given the others."""

    steps: int = 0
    swept: bool = False

    def take(self, rows: Tensor) -> SweepCarry:
        force = self.force.index_select(0, rows)
        return SweepCarry(force, self.fresh, steps=self.steps, swept=self.swept)


@dataclass(frozen=True)
class Sweeps(AbstractSolver):
    """Block Gauss-Seidel over groups of layers that do not act on one another.

    The first sweep follows the phase's signal layer by layer, so that the signal crosses the
    network in one sweep. A sweep costs one evaluation of the field. If the network contracts, it
    gains as much as two Euler steps with dt = 1.
    """

    def init(self, dynamics: AbstractDynamics, s: Tensor) -> SweepCarry:
        return SweepCarry(torch.empty_like(s))

    def reach(self, dynamics: AbstractDynamics) -> int:
        if len(dynamics.order) == 1:
            return dynamics.depth
        return 1 if len(dynamics.order) <= 2 else 2

    def measure(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> Tensor:
        assert isinstance(carry, SweepCarry)
        if carry.swept and not carry.fresh:
            # the last group has been settled: its force needs no new products
            dynamics.force_after_settling(s, carry.force)
            carry.fresh, carry.currents = True, dynamics.currents()
            return carry.force
        return super().measure(dynamics, s, carry)

    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        assert isinstance(carry, SweepCarry)
        first, *others = dynamics.groups
        if carry.steps == 0:
            for layer in dynamics.order:
                dynamics.settle(s, (layer,))
        else:
            self.settle_first(dynamics, s, first, carry)
            for group in others:
                dynamics.settle(s, group)
        carry.swept = carry.steps > 0 or len(dynamics.order) <= 2
        carry.steps += 1

    def settle_first(
        self, dynamics: AbstractDynamics, s: Tensor, group: tuple[int, ...], carry: SweepCarry
    ) -> None:
        """Settle the first group of a sweep, reusing the force if it is known."""
        if carry.fresh:
            dynamics.shift(s, group, carry.force)
        else:
            dynamics.settle(s, group)


@dataclass(frozen=True)
class DampedSweeps(AbstractSolver):
    """Block successive under-relaxation: each group moves a fraction `omega` of the way.

    As omega -> 0 it follows ds/dt = F(s) and settles wherever the network does. If feedback opposes
    feedforward, so that W has the eigenvalues +- i mu, it settles for omega < 2 / (1 + mu). Euler
    steps settle only for dt < 2 / (1 + mu^2), and full sweeps only for mu < 1.

    Attributes:
        omega: relaxation factor: the fraction of the way that a group of layers moves in a step, in
            (0, 1].

    Source: Young 1971, Iterative Solution of Large Linear Systems, chapter 6.
    """

    omega: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.omega <= 1.0:
            raise InputError(f"omega={self.omega} must lie in (0, 1], the share of a step")

    @property
    def pace(self) -> float:
        return self.omega

    def reach(self, dynamics: AbstractDynamics) -> int:
        return dynamics.depth

    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        for group in dynamics.groups:
            force = self.measure(dynamics, s, carry)
            dynamics.shift(s, group, force.mul_(self.omega))
            carry.fresh = False


DAMPED = (DampedSweeps(0.5), DampedSweeps(0.2), DampedSweeps(0.05))
"""Solvers that are tried in turn on rows for which larger steps make no progress."""
