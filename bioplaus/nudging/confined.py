"""The exact nudged phases of fields whose rho is the identity, some layers within a box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bioplaus.fields.connections import Wire
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging.deviations import Deviations, Symmetrised
from bioplaus.nudging.layered import Layered
from bioplaus.nudging.nudge import Nudge


class Confined(Symmetrised):
    """F(d) = clip(W^T d) - d - beta dC/ds, where rho is the identity in every layer.

    The bounds are lo - s* and hi - s*. They are 0 where the current of a unit at s* lies outside
    its box: such a unit does not move and sends nothing, so that the current needs no factor G.
    """

    def __init__(
        self,
        field: LayeredField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> None:
        """Fix the clamped input, the nudge, the free fixed point [B, n] and its known currents."""
        self._unread: Tensor | None = None
        super().__init__(field, drive, nudge, free, currents)
        # one tensor, so that rows are taken in one call
        self._walls = torch.zeros_like(self.held)
        for k, here in enumerate(field.layers):
            if (box := field.specs[k].box) is not None:
                for side, bound in enumerate(box):
                    wall = torch.sub(bound, free[:, here])
                    torch.mul(wall, self.slope[:, here], out=self._walls[:, side, here])

    @property
    def held(self) -> Tensor:
        """s* and G, [B, 2, n]; their rows are taken on demand, as the phase does not read them."""
        if self._unread is not None:
            self._held, self._unread = self._held.index_select(0, self._unread), None
        return self._held

    @held.setter
    def held(self, held: Tensor) -> None:
        self._held, self._unread = held, None

    @property
    def excess(self) -> Tensor | None:
        return None

    def links(self) -> frozenset[tuple[int, int]] | None:
        return Deviations.links(self)

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        base = None
        for k, wire in self._signals(layer):
            if k not in self.resting:
                base = wire.add_transposed(base, r[k], out)
        return out.zero_() if base is None else out

    def _bound(self, current: Tensor, box: tuple[float, float], here: slice) -> None:
        self.slope[:, here] = (current > box[0]) & (current < box[1])

    def _carry(self, link: tuple[int, int], rows: Tensor | None, out: Tensor) -> Tensor:
        r = self._r[link[0]]
        r = r if rows is None else r.index_select(0, rows)
        return self._wire[link].add_transposed(None, r, out)

    def _signals(self, layer: int) -> Sequence[tuple[int, Wire]]:
        return self.transposes.leaving[layer]

    def _take_held(self, rows: Tensor) -> None:
        self._walls = self._walls.index_select(0, rows)
        self._unread = rows if self._unread is None else self._unread.index_select(0, rows)

    def _bind(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return Layered._bind(self, s)

    def _bind_held(self) -> None:
        pairs = zip(*(self.field.split(self._walls[:, side]) for side in (0, 1)), strict=True)
        self._bounds = [pair if self.field.is_boxed(k) else None for k, pair in enumerate(pairs)]
        self._excess = [None for _ in self._bounds]

    def _fire(self, layers: Iterable[int]) -> None:
        return  # the deviations are the signals
