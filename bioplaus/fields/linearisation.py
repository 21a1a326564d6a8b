"""A field's Jacobian at given states: products with it, never the matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class AbstractLinearisation(ABC):
    """J_s = dmu/ds at one state a row.

    Attributes:
        slope: D, the derivative of each unit's nonlinearity, [B, n].
    """

    slope: Tensor

    @property
    def n(self) -> int:
        """Number of state variables."""
        return self.slope.shape[1]

    @abstractmethod
    def jvp(self, v: Tensor) -> Tensor:
        """J_s v, row by row, [B, n]."""

    @abstractmethod
    def vjp(self, v: Tensor) -> Tensor:
        """J_s^T v, row by row, [B, n]."""

    @abstractmethod
    def take(self, rows: Tensor | slice) -> Self:
        """The same at some of the states, given by index; a state may be given many times."""


@dataclass(frozen=True)
class LayeredLinearisation(AbstractLinearisation):
    """J_s = W D - 1, or D W - 1 in a box, with W the recurrent weights of all layers.

    Attributes:
        product: v -> W v, from layers to layers.
        transposed: v -> W^T v.
        split: s [B, n] -> its layers' columns, as views.
        boxed: whether units follow their current inside a box.
    """

    product: Callable[[Sequence[Tensor], int, Tensor], Tensor]
    transposed: Callable[[Sequence[Tensor], int, Tensor], Tensor]
    split: Callable[[Tensor], list[Tensor]]
    boxed: bool

    def jvp(self, v: Tensor) -> Tensor:
        inner = v if self.boxed else self.slope * v
        out = self._all_layers(self.product, inner)
        return (out.mul_(self.slope) if self.boxed else out).sub_(v)

    def vjp(self, v: Tensor) -> Tensor:
        inner = self.slope * v if self.boxed else v
        out = self._all_layers(self.transposed, inner)
        return (out if self.boxed else out.mul_(self.slope)).sub_(v)

    def take(self, rows: Tensor | slice) -> LayeredLinearisation:
        return LayeredLinearisation(
            self.slope[rows], self.product, self.transposed, self.split, self.boxed
        )

    def _all_layers(
        self, product: Callable[[Sequence[Tensor], int, Tensor], Tensor], v: Tensor
    ) -> Tensor:
        out, parts = torch.empty_like(v), self.split(v)
        for k, there in enumerate(self.split(out)):
            product(parts, k, there)
        return out
