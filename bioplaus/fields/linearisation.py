"""Products with a field's Jacobian at given states, without forming the matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.fields.connections.wires import Wires
from bioplaus.products import pushforward


@dataclass(frozen=True)
class AbstractLinearisation(ABC):
    """J_s = dmu/ds at one state per row.

    Attributes:
        s: the states, [B, n].
    """

    s: Tensor

    @property
    def n(self) -> int:
        """Number of state variables."""
        return self.s.shape[1]

    @abstractmethod
    def jvp(self, v: Tensor) -> Tensor:
        """J_s v, row by row, [B, n]."""

    @abstractmethod
    def vjp(self, v: Tensor) -> Tensor:
        """J_s^T v, row by row, [B, n]."""

    @abstractmethod
    def take(self, rows: Tensor | slice) -> Self:
        """The same at some of the states, given by index; a state may occur many times."""

    def reached(self, delta: Tensor) -> Tensor:
        """Convert a change of states [B, n] to the `delta` for `local_update`.

        If the field's rule assumes that units on a wall of their box do not move, their entries are
        set to zero here.
        """
        return delta


@dataclass(frozen=True)
class FunctionalLinearisation(AbstractLinearisation):
    """J_s by autograd.

    Attributes:
        drive: the drive of each state, one per row.
        mu: (drive, s) -> mu, [B, n].
    """

    drive: Tensor
    mu: Callable[[Tensor, Tensor], Tensor]

    @cached_property
    def _pull(self) -> Callable[[Tensor], tuple[Tensor]]:
        return vjp(lambda s: self.mu(self.drive, s), self.s)[1]

    @cached_property
    def _push(self) -> Callable[[Tensor], Tensor]:
        return pushforward(lambda s: self.mu(self.drive, s), self.s)

    def jvp(self, v: Tensor) -> Tensor:
        return self._push(v)

    def vjp(self, v: Tensor) -> Tensor:
        return self._pull(v)[0]

    def take(self, rows: Tensor | slice) -> FunctionalLinearisation:
        return FunctionalLinearisation(self.s[rows], self.drive[rows], self.mu)


@dataclass(frozen=True)
class LayeredLinearisation(AbstractLinearisation):
    """J_s = G W D - 1: D = rho' of units without a box, G = 1 inside and 0 outside of a box.

    Attributes:
        slope: G for boxed layers and D for the others, [B, n].
        wires: W, the connections at these states.
        layers: the columns of each layer.
        boxed: which layers have a box.
    """

    slope: Tensor
    wires: Wires
    layers: tuple[slice, ...]
    boxed: tuple[bool, ...]

    @cached_property
    def _factors(self) -> tuple[Tensor | None, Tensor | None]:
        """G and D; None for one that is 1 everywhere."""
        if not any(self.boxed):
            return None, self.slope
        g, d = torch.ones_like(self.slope), torch.ones_like(self.slope)
        for here, boxed in zip(self.layers, self.boxed, strict=True):
            (g if boxed else d)[:, here] = self.slope[:, here]
        return g, None if bool((d == 1).all()) else d

    def jvp(self, v: Tensor) -> Tensor:
        g, d = self._factors
        parts, out = self._split(v if d is None else v * d), torch.empty_like(v)
        for k, there in enumerate(self._split(out)):
            self.wires.sum(None, k, parts, there)
        return (out if g is None else out.mul_(g)).sub_(v)

    def vjp(self, v: Tensor) -> Tensor:
        g, d = self._factors
        parts, out = self._split(v if g is None else v * g), torch.empty_like(v)
        for there, leaving in zip(self._split(out), self.wires.leaving, strict=True):
            base = None
            for k, wire in leaving:
                base = wire.add_transposed(base, parts[k], there)
            if base is None:
                there.zero_()
        return (out if d is None else out.mul_(d)).sub_(v)

    def take(self, rows: Tensor | slice) -> LayeredLinearisation:
        return LayeredLinearisation(
            self.s[rows], self.slope[rows], self.wires.take(rows), self.layers, self.boxed
        )

    def reached(self, delta: Tensor) -> Tensor:
        g, _ = self._factors
        return delta if g is None else delta * g

    def _split(self, v: Tensor) -> list[Tensor]:
        return [v[:, here] for here in self.layers]
