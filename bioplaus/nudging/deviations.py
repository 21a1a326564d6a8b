"""Nudged phases of layered fields in deviations d = s - s* from the free fixed point."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor

from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging.layered import Layered
from bioplaus.nudging.nudge import Nudge
from bioplaus.precision import double


class Deviations(Layered):
    """F(d) = W (rho(s* + d) - rho(s*)) - d - beta dC/ds; in a box, clip(...) - d.

    Changes of rho are taken to their last digits (`Activation.difference`), so that nothing is
    lost of a small d. Pooling is that of s*, linearised there. What the free phase has left of
    mu(x, s*) is left out.

    Where a layer has a box, lo - s* <= d <= hi - s*, and a unit whose current at s* lies outside
    by e has to be pulled so far before it moves.
    """

    ranks = 1
    """Rows of `held` without a box: s* alone."""
    resting: frozenset[int] = frozenset()
    """Layers that are known to be at d = 0 still, and so send nothing."""

    def __init__(self, field: LayeredField, drive: Tensor, nudge: Nudge, free: Tensor) -> None:
        """Fix the clamped input, the nudge and the free fixed point [B, n]."""
        super().__init__(field, drive, nudge)
        self.size = torch.linalg.vector_norm(free, dim=1)
        self.rows: Tensor | None = None
        r = [field.activity(own, k) for k, own in enumerate(field.split(free))]
        self.wires = field.wires_at(r)
        self.boxed = any(spec.box is not None for spec in field.specs)
        # in one tensor, so that rows are taken at once: s*, more of a subclass, the excess
        self.held = free.new_zeros(len(free), self.ranks + self.boxed, free.shape[1])
        self.held[:, 0] = free
        for k, here in enumerate(field.layers):
            if (box := field.specs[k].box) is not None:
                self._bound(field.current(r, drive, k), box, here)

    def _bound(self, current: Tensor, box: tuple[float, float], here: slice) -> None:
        """Keep how far a current lies outside its box."""
        torch.sub(current, torch.clamp(current, *box), out=self.held[:, -1, here])

    @property
    def drive(self) -> Tensor:
        # the phase itself does not read it: its rows are taken where they are asked for
        return self._drive if self.rows is None else self._drive[self.rows]

    @property
    def origin(self) -> Tensor:
        """s*, [B, n]."""
        return self.held[:, 0]

    @property
    def excess(self) -> Tensor | None:
        """How far each current at s* lies outside its box, [B, n]; None where there is no box."""
        return self.held[:, -1] if self.boxed else None

    def scale(self, size: Tensor) -> Tensor:
        return self.size

    def from_rest(self) -> Self:
        """The same, for a search that begins at d = 0."""
        self.resting = frozenset(self.order)
        return self

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        super().settle(s, group)
        if self.resting:
            self.resting = self.resting.difference(group)

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        self.resting = frozenset()
        super().shift(s, group, step)

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        self.resting = frozenset()  # a solver may move `s` itself afterwards
        return super().force(s, out)

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        of = self._moved(self.order) if self.resting else None
        return self.wires.sum(self._excess[layer], layer, r, out, of=of)

    def _moved(self, layers: Sequence[int]) -> Sequence[int]:
        """Those of some layers that may have left d = 0."""
        return [k for k in layers if k not in self.resting] if self.resting else layers

    def confine(self, s: Tensor, layer: int) -> Tensor:
        bounds = self._bounds[layer]
        return s if bounds is None else torch.clamp(s, *bounds, out=s)

    def outputs(self, own: Tensor) -> Tensor:
        return self._free[self.last] + own

    def take(self, rows: Tensor, nudge: Nudge | None = None) -> Deviations:
        """The same for some of the rows.

        Args:
            rows: by index.
            nudge: in place of the rows' own; `rows` are all of them then, a few times over.
        """
        new = copy.copy(self)
        new.nudge = nudge or (self.nudge and self.nudge.take(rows))
        new.wires, new.held = self.wires.take(rows), self.held.index_select(0, rows)
        if nudge is None:
            new.field = self.field.of_rows(rows)
            new.wires = new.field.wires if self.wires.linear else new.wires
        new.size = self.size.index_select(0, rows)
        new.rows = rows if self.rows is None else self.rows.index_select(0, rows)
        new._bound_to = new._output_current = None
        return new

    def precise(self) -> Deviations:
        assert self.nudge is not None
        field, free = self.field.precise(), double(self.origin)
        return type(self)(field, double(self.drive), self.nudge.precise(), free)

    def _bind(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if s is not self._bound_to:
            self._free = self.field.split(self.origin)
            self._excess: list[Tensor | None] = [None for _ in self._free]
            self._bounds: list[tuple[Tensor, Tensor] | None] = [None for _ in self._free]
            for k, own in enumerate(self._free):
                if (box := self.field.specs[k].box) is not None:
                    self._excess[k] = self.held[:, -1, self.field.layers[k]]
                    self._bounds[k] = (box[0] - own, box[1] - own)
        return super()._bind(s)

    def _fire(self, layers: Iterable[int]) -> None:
        for k in layers:
            if self._nonlinear[k]:
                rho = self.field.specs[k].rho
                self._r[k].copy_(rho.difference(self._free[k], self._parts[k]))


class Symmetrised(Deviations):
    """F(d) = mu(s* + d) - mu(s*) - beta dC/ds - (J - J^T) d, J the Jacobian at s*.

    The Jacobian of F at s* is J^T, so that ds_beta/dbeta = J^-T c. With D = diag rho'(s*) and
    q = rho(s* + d) - rho(s*) - D d, the current of a layer is W q + D W^T d: two products in
    place of the three of mu, J d and J^T d. Where rho is the identity (a box), q is 0, and the
    current is G W^T G d, G marking the units whose current lies inside their box: one product,
    as in the plain field.

    Source: Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670).
    """

    ranks = 2

    def __init__(self, field: LayeredField, drive: Tensor, nudge: Nudge, free: Tensor) -> None:
        """Fix the clamped input, the nudge and the free fixed point [B, n]."""
        super().__init__(field, drive, nudge, free)
        for k, own in enumerate(field.split(free)):
            if not field.is_boxed(k):
                linear = field.is_linear(k)
                self.slope[:, field.layers[k]] = 1.0 if linear else field.specs[k].rho.slope(own)
        # q comes from layers with a rho of their own
        self._curved = [k for k in self.order if not field.is_linear(k)]

    @property
    def slope(self) -> Tensor:
        """D, and G of boxed layers, [B, n]; 1 of linear ones."""
        return self.held[:, 1]

    @property
    def transposes(self) -> Wires:
        """The connections whose transposes carry the deviations back: W itself."""
        return self.wires

    def _bound(self, current: Tensor, box: tuple[float, float], here: slice) -> None:
        super()._bound(current, box, here)
        self.slope[:, here] = (current > box[0]) & (current < box[1])

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        back, base = self._back[layer], None
        for k, wire in self.transposes.leaving[layer]:
            if k not in self.resting:
                base = wire.add_transposed(base, self._v[k], back)
        excess, slope, of = self._excess[layer], self._slope[layer], self._moved(self._curved)
        total = self.wires.sum(excess, layer, r, out, of=of) if self._curved else excess
        if base is None:
            return out if self._curved else _copied(total, out)
        if total is None:
            return out.copy_(back) if slope is None else torch.mul(slope, back, out=out)
        if slope is None:
            return torch.add(total, back, out=out)
        return torch.addcmul(total, slope, back, out=out)

    def _bind(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        known = s is self._bound_to
        parts, r = super()._bind(s)
        if not known:
            boxed = self.field.is_boxed
            self._slope = [
                own if boxed(k) or k in self._curved else None
                for k, own in enumerate(self.field.split(self.slope))
            ]
            self._back = [torch.empty_like(part) for part in parts]
            self._v = [torch.empty_like(p) if boxed(k) else p for k, p in enumerate(parts)]
        return parts, r

    def _fire(self, layers: Iterable[int]) -> None:
        layers = list(layers)
        super()._fire(layers)
        for k in layers:
            own, slope = self._parts[k], self._slope[k]
            if slope is None:
                continue
            if self._nonlinear[k]:
                self._r[k].addcmul_(slope, own, value=-1)
            if self._v[k] is not own:
                torch.mul(own, slope, out=self._v[k])


def _copied(base: Tensor | None, out: Tensor) -> Tensor:
    return out.zero_() if base is None else out.copy_(base)
