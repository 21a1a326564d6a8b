"""Lateral connections: every unit of a layer to every other unit of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.fields.connections.base import Shape, Wire
from bioplaus.fields.connections.dense import Dense, DenseWire


@dataclass(frozen=True, eq=False, repr=False)
class Lateral(Dense):
    """a_i = sum_{j != i} W_ij r_j within one layer: no unit acts on itself.

    Examples:
        >>> Lateral(2).name
        'lateral.2'
    """

    def __init__(
        self,
        layer: int,
        *,
        name: str = "",
        gain: float = 1.0,
        trainable: bool = True,
        mask: Tensor | None = None,
        signs: Tensor | None = None,
    ) -> None:
        """Connect a layer to itself.

        Args:
            layer: number of the layer, from 1.
            name, gain, trainable, mask, signs: see `Connection`.
        """
        super().__init__(layer, layer, name, gain, trainable, mask, signs)

    def ends(self) -> list[str]:
        return [str(self.target)]

    def effective(self, weight: Tensor) -> Tensor:
        others = 1 - torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        return super().effective(weight) * others

    def constrain(self, weight: Tensor, *, flip: bool = False) -> Tensor:
        super().constrain(weight, flip=flip).fill_diagonal_(0.0)
        return weight

    def wire(self, weight: Tensor, source: Shape, target: Shape) -> Wire:
        kind = LateralWire if self.mask is None else Wire
        return kind(self, weight, source, target)


class LateralWire(DenseWire):
    """The products of a weight without its diagonal."""

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        current = r @ self.transposed - r * self.weight.diagonal()
        if base is not None:
            return torch.add(base, current, out=out)
        return current if out is None else out.copy_(current)

    def back(self, v: Tensor) -> Tensor:
        return v @ self.weight - v * self.weight.diagonal()

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        back = self.back(v)
        return out.copy_(back) if base is None else torch.add(base, back, out=out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return torch.mm(post.T, r).fill_diagonal_(0.0)

    def update_into(self, out: Tensor, r: Tensor, post: Tensor) -> None:
        torch.mm(post.T, r, out=out).fill_diagonal_(0.0)
