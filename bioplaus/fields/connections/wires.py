"""All connections of a field with their weights, sorted by the layers that they connect."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.fields.connections.base import Wire


class Wires:
    """The connections of a field with their weights.

    Attributes:
        into: for each layer, the sources (by index; -1 is the input) and wires into it.
        within: the same without wires from the input.
        leaving: for each layer, the targets and wires out of it.
        products: multiplications per row within the network; inf for kernels and stacked weights.
    """

    def __init__(self, into: list[list[tuple[int, Wire]]]) -> None:
        """Sort the wires."""
        self.into = into
        self.within = [[(j, wire) for j, wire in some if j >= 0] for some in into]
        # of a stacked weight [M, n, m] always take rows: a run must not depend on its companions
        inner = [wire.weight for some in self.within for _, wire in some]
        self.products = sum(w.numel() if w.ndim == 2 else math.inf for w in inner)
        self.linear = all(w.connection.linear for some in self.within for _, w in some)
        self.leaving: list[list[tuple[int, Wire]]] = [[] for _ in into]
        for k in reversed(range(len(into))):
            for j, wire in self.within[k]:
                self.leaving[j].append((k, wire))

    def sum(
        self,
        base: Tensor | None,
        layer: int,
        r: Sequence[Tensor],
        out: Tensor | None = None,
        rows: int = 1,
        of: Collection[int] | None = None,
    ) -> Tensor:
        """base + sum_j W_j r_j of one layer.

        Args:
            base: broadcast to [B, n_layer]; None means zero.
            layer: index of the layer.
            r: activities, one tensor per layer.
            out: receives the sum; without it, the result is differentiable.
            rows: B, if nothing else determines it.
            of: the layers j to add; None means all.
        """
        total, empty = base, True
        for j, wire in self.within[layer]:
            if of is None or j in of:
                total, empty = wire.add(total, r[j], out), False
        if not empty:
            assert total is not None
            return total
        if out is not None:
            return out.zero_() if base is None else out.copy_(base)
        if base is None:
            raise InputError("a layer has neither a bias nor a connection that reaches it")
        return base.clone() if base.ndim == 2 else base.expand(rows, -1).clone()

    def at(self, r: Sequence[Tensor]) -> Wires:
        """The linear parts of the wires at activities `r`, one tensor per layer."""
        if self.linear:
            return self
        return Wires([[(j, wire.at(r[j])) for j, wire in some] for some in self.within])

    def take(self, rows: Tensor | slice) -> Wires:
        """The same wires for some of the rows for which they were linearised."""
        if self.linear:
            return self
        return Wires([[(j, wire.take(rows)) for j, wire in some] for some in self.within])
