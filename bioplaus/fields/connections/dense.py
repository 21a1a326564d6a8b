"""Dense connections: every unit to every unit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bioplaus.fields.connections.base import Connection, Shape, Wire, units
from bioplaus.fields.connections.stacked import StackedWire

NARROW = 32
"""Below this width a product in column layout is faster, even with a copy to row layout."""


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Connection):
    """a_i = sum_j W_ij r_j, with W [n_target, n_source]; layers with a shape are flattened."""

    def weight_shape(self, source: Shape, target: Shape) -> Shape:
        return units(target), units(source)

    def current(self, weight: Tensor, r: Tensor) -> Tensor:
        return r.flatten(1) @ weight.T

    def wire(self, weight: Tensor, source: Shape, target: Shape) -> Wire:
        if self.mask is not None:
            return super().wire(weight, source, target)
        if weight.ndim == 3:  # weights of many networks, see `bioplaus.fields.ensemble`
            return StackedWire(self, weight, source, target)
        return DenseWire(self, weight, source, target)


@dataclass(eq=False)
class DenseWire(Wire):
    """Fused multiply-add products; looking up and transposing is done once."""

    transposed: Tensor = field(init=False)
    narrow: bool = field(init=False)

    def __post_init__(self) -> None:
        self.transposed = self.weight.T
        self.narrow = len(self.weight) < NARROW

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        if self.narrow and base is not out:
            product = torch.mm(self.weight, r.T).T
            if base is not None:
                return torch.add(base, product, out=out)
            return product if out is None else out.copy_(product)
        if base is None:
            return torch.mm(r, self.transposed, out=out)
        return torch.addmm(base, r, self.transposed, out=out)

    def back(self, v: Tensor) -> Tensor:
        return v @ self.weight

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        if base is None:
            return torch.mm(v, self.weight, out=out)
        return torch.addmm(base, v, self.weight, out=out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return torch.mm(post.T, r)

    def update_into(self, out: Tensor, r: Tensor, post: Tensor) -> None:
        torch.mm(post.T, r, out=out)
