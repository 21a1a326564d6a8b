"""Tied connections: the transpose of another connection, with the same weight."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.func import vjp

from bioplaus.errors import InputError
from bioplaus.fields.connections.base import Connection, Shape, Wire, units


@dataclass(frozen=True, eq=False, repr=False)
class Tied(Connection):
    """a = W^T r, with the weight W of the connection named `of`, which must be linear.

    Both directions add to the update of the one parameter.

    Attributes:
        of: the name of that connection; by default the one from `target` to `source`.
    """

    of: str = field(default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask is not None or self.signs is not None:
            raise InputError("Tied shares a weight: give the mask and signs to that connection")
        if self.gain != 1.0 or not self.trainable:
            raise InputError(
                f"gain={self.gain} and trainable={self.trainable} have no effect on a Tied "
                "connection, which shares a weight: give them to that connection"
            )

    def weight_shape(self, source: Shape, target: Shape) -> Shape:
        raise InputError("a Tied connection has no weight of its own")

    def current(self, weight: Tensor, r: Tensor) -> Tensor:
        raise InputError("a Tied connection has no current without the one that it is tied to")

    def tie(self, other: Wire) -> Wire:
        """The transpose of another wire."""
        return TiedWire(self, other.weight, other.target, other.source, other)


@dataclass(eq=False)
class TiedWire(Wire):
    """W^T r and W v in place of W r and W^T v."""

    other: Wire

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            current = self.other.back(r)
            return current if base is None else base + current
        return self.other.add_transposed(base, r, out)

    def back(self, v: Tensor) -> Tensor:
        return self.other.add(None, v)

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        return self.other.add(base, v, out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return self.other.update(post, r)

    def formula(self, weight: Tensor, r: Tensor) -> Tensor:
        start = r.new_zeros(len(r), units(self.target))
        return vjp(lambda z: self.other.formula(weight, z), start)[1](r)[0]

    def with_weight(self, weight: Tensor) -> TiedWire:
        return TiedWire(
            self.connection, weight, self.source, self.target, self.other.with_weight(weight)
        )
