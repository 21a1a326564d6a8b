"""Many networks of one architecture as one field with batched products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, final

import torch
from torch import Tensor

from bioplaus.fields.base import VectorField
from bioplaus.fields.connections import Dense, Tied
from bioplaus.fields.connections.stacked import Rows, StackedWire
from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.layered import LayeredField
from bioplaus.fields.leaky import LeakyField


@final
class Ensemble(LayeredField):
    """M networks that share only their architecture; row i belongs to member i modulo M.

    Each parameter has an additional leading dimension for the members. Each row is computed with
    the weights of its member. The product of a whole batch [B M, n] is one batched product of
    [M, B, n] with [M, n, n']. Once a search has removed rows, so that members have different
    numbers of them, there is one product per member.

    Attributes:
        members: number of networks, M.

    Examples:
        >>> nets = [LeakyField([4, 6, 3]) for _ in range(5)]
        >>> all_of = lambda name: torch.stack([net.parameters[name] for net in nets])
        >>> many = Ensemble(nets[0], {name: all_of(name) for name in nets[0].parameters})
        >>> x = torch.rand(2, 4)
        >>> many.drive(x.repeat_interleave(5, 0)).shape  # two inputs, five members, 6 + 3 units
        torch.Size([10, 9])
    """

    _rows: Rows | None = None

    def __init__(self, like: LayeredField, parameters: Mapping[str, Tensor]) -> None:
        """Set the parameters of all members.

        Args:
            like: one of them, for which `unfit` returns None.
            parameters: parameters by name, [M, ...].
        """
        vars(self).update(like.__getstate__())
        self.members = len(next(iter(parameters.values())))
        self._wire(parameters)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.members} times {super().__repr__()})"

    def _wire(self, parameters: Mapping[str, Tensor]) -> None:
        super()._wire(parameters)
        # biases differ between members, so no layer has the same bias in all rows
        self._driven = list(range(len(self.layers)))
        if self._rows is not None:
            self._wires = self._wires_of(self._rows)

    def of_rows(self, rows: Tensor) -> Self:
        whole = torch.arange(len(rows), device=rows.device)
        members = rows % self.members if self._rows is None else self._rows.members[rows]
        new = object.__new__(type(self))
        vars(new).update(vars(self))  # copy.copy would rebuild the wires, as for a pickle
        regular = len(rows) % self.members == 0 and torch.equal(members, whole % self.members)
        new._rows = None if regular else Rows(members, self.members)
        new._wires = new._wires_of(new._rows)
        return new

    def arranged(self, rows: Tensor) -> Tensor:
        members = rows % self.members if self._rows is None else self._rows.members[rows]
        return rows[members.argsort(stable=True)]

    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The updates of all members, [M, ...], each averaged over its own rows of the batch."""
        return super().local_update(x, s, delta * self.members, out)

    def _spread_bias(self, k: int, rows: int) -> Tensor:
        """The bias of each row's member, [rows, n_k]."""
        bias = self._biases[k]
        if bias is None:
            like, here = next(iter(self.parameters.values())), self.layers[k]
            return like.new_zeros(rows, here.stop - here.start)
        if self._rows is not None:
            return bias[self._rows.members]
        return bias.repeat(rows // self.members, 1)

    def _wires_of(self, rows: Rows | None) -> Wires:
        """The connections for these rows; tied ones use the wire whose weight they share."""
        known: dict[int, StackedWire] = {}

        def of(wire: Any) -> Any:
            if isinstance(wire, StackedWire):
                return known.setdefault(id(wire), wire.of_rows(rows))
            return replace(wire, other=of(wire.other))

        return Wires([[(j, of(wire)) for j, wire in into] for into in self._wires.into])


def unfit(field: VectorField) -> str | None:
    """Why networks like this one cannot form an `Ensemble`; None if they can."""
    if type(field) not in (LeakyField, LayeredField):
        return f"{type(field).__name__} is no network of layers whose weights can be stacked"
    assert isinstance(field, LayeredField)
    for c in field.connections:
        if type(c) not in (Dense, Tied):
            return f"connection {c.name} is {type(c).__name__}, not Dense or Tied"
        if c.mask is not None or c.signs is not None or not c.trainable:
            return f"connection {c.name} has a mask, signs or a weight that is fixed"
    if any(len(shape) > 1 for shape in field.shapes[1:]):
        return "a layer has channels"
    return None
