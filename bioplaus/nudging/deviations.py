"""Nudged phases of layered fields in deviations d = s - s* from the free fixed point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging import elementwise
from bioplaus.nudging.layered import Layered, total
from bioplaus.nudging.nudge import Nudge
from bioplaus.precision import double


class Deviations(Layered):
    """F(d) = W (rho(s* + d) - rho(s*)) - d - beta dC/ds; in a box, clip(...) - d.

    `Activation.difference` computes the changes of rho, so that a small d loses no precision.
    Pooling is linearised at s*. The residual mu(x, s*) of the free phase is subtracted.

    In a layer with a box, lo - s* <= d <= hi - s*. If the current of a unit at s* lies outside the
    box by e, the unit moves only once its current has changed by more than e.
    """

    ranks = 1
    """Number of rows of `held` without a box: s* only."""

    def __init__(
        self,
        field: LayeredField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> None:
        """Fix the clamped input, the nudge, the free fixed point [B, n] and its known currents."""
        super().__init__(field, drive, nudge)
        self.size = torch.linalg.vector_norm(free, dim=1)
        self.rows: Tensor | None = None
        self._rest = free[:, field.layers[-1]]
        r = [field.activity(own, k) for k, own in enumerate(field.split(free))]
        self.wires = field.wires_at(r)
        self.exceeding = any(spec.box is not None for spec in field.specs)
        # one tensor, so that rows are taken in one call: s*, a subclass's additions, the excess
        self.held = free.new_zeros(len(free), self.ranks + self.exceeding, free.shape[1])
        self.held[:, 0] = free
        for k, here in enumerate(field.layers):
            if (box := field.specs[k].box) is not None:
                known = currents is not None
                self._bound(currents[:, here] if known else field.current(r, drive, k), box, here)

    def _bound(self, current: Tensor, box: tuple[float, float], here: slice) -> None:
        """Store how far a current lies outside its box."""
        torch.sub(current, torch.clamp(current, *box), out=self.held[:, -1, here])

    @property
    def drive(self) -> Tensor:
        # the phase itself does not read the drive, so its rows are taken only on demand
        return self._drive if self.rows is None else self._drive[self.rows]

    @property
    def origin(self) -> Tensor:
        """s*, [B, n]."""
        return self.held[:, 0]

    @property
    def excess(self) -> Tensor | None:
        """How far each current at s* lies outside its box, [B, n]; None if there is no box."""
        return self.held[:, -1] if self.exceeding else None

    def scale(self, size: Tensor) -> Tensor:
        return self.size

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        super().settle(s, group)
        if self.resting:
            self.resting = self.resting.difference(group)

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        self.resting = frozenset()
        super().shift(s, group, step)

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        self.resting = frozenset()  # from here on a solver may change `s` directly
        return super().force(s, out)

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        of = self._moved(self.order) if self.resting else None
        return self.wires.sum(self._excess[layer], layer, r, out, of=of)

    def receive(self, layer: int, signals: Sequence[Tensor], out: Tensor) -> Tensor:
        return total(self._excess[layer], signals, out)

    def _added(self, link: tuple[int, int]) -> Tensor | None:
        return None

    def _moved(self, layers: Sequence[int]) -> Sequence[int]:
        """The given layers that may have left d = 0."""
        return [k for k in layers if k not in self.resting] if self.resting else layers

    def confine(self, s: Tensor, layer: int) -> Tensor:
        bounds = self._bounds[layer]
        return s if bounds is None else torch.clamp(s, *bounds, out=s)

    def take(self, rows: Tensor, nudge: Nudge | None = None) -> Deviations:
        """The same dynamics for a subset of the rows.

        Args:
            rows: indices of the rows.
            nudge: replaces the rows' own nudge; `rows` then holds all rows, each the same number
                of times.
        """
        new = object.__new__(type(self))  # copy.copy does the same five times slower
        vars(new).update(vars(self))
        new.nudge = nudge or (self.nudge and self.nudge.take(rows))
        new.wires = self.wires.take(rows)
        new._take_held(rows)
        if nudge is None:
            new.field = self.field.of_rows(rows)
            new.wires = new.field.wires if self.wires.linear else new.wires
        new.size = self.size.index_select(0, rows)
        new._rest = None if self._rest is None else self._rest.index_select(0, rows)
        new.rows = rows if self.rows is None else self.rows.index_select(0, rows)
        new._bound_to = new._output_current = None
        return new

    def _take_held(self, rows: Tensor) -> None:
        """Take the rows of what the phase reads in each step."""
        self.held = self.held.index_select(0, rows)

    def precise(self) -> Deviations:
        assert self.nudge is not None
        field, free = self.field.precise(), double(self.origin)
        return type(self)(field, double(self.drive), self.nudge.precise(), free)

    def _bind_held(self) -> None:
        """Slice what is held of the rows by layer."""
        self._free = self.field.split(self.origin)
        self._changes = [elementwise.change_of(spec.rho) for spec in self.field.specs]
        self._excess: list[Tensor | None] = [None for _ in self._free]
        self._bounds: list[tuple[Tensor, Tensor] | None] = [None for _ in self._free]
        for k, own in enumerate(self._free):
            if (box := self.field.specs[k].box) is not None:
                self._excess[k] = self.held[:, -1, self.field.layers[k]]
                self._bounds[k] = (box[0] - own, box[1] - own)

    def _fire(self, layers: Iterable[int]) -> None:
        for k in layers:
            if self._nonlinear[k]:
                given = (self._changes[k], self._free[k], self._parts[k])
                elementwise.do(elementwise.write, self._r[k], *given)


class Symmetrised(Deviations):
    """F(d) = mu(s* + d) - mu(s*) - beta dC/ds - (J - J^T) d, J the Jacobian at s*.

    The Jacobian of F at s* is J^T, so that ds_beta/dbeta = J^-T c. With D = diag rho'(s*) and
    q = rho(s* + d) - rho(s*) - D d, the current of a layer is W q + D W^T d. This takes two
    products in place of three (for mu, J d and J^T d). Where rho is the identity (a box), q is 0
    and the current is G W^T G d, where G marks the units whose current lies inside their box. This
    takes one product, as in the plain field.

    Source: Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670).
    """

    ranks = 2

    def __init__(
        self,
        field: LayeredField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> None:
        """Fix the clamped input, the nudge, the free fixed point [B, n] and its known currents."""
        super().__init__(field, drive, nudge, free, currents)
        for k, own in enumerate(field.split(free)):
            if not field.is_boxed(k):
                linear = field.is_linear(k)
                self.slope[:, field.layers[k]] = 1.0 if linear else field.specs[k].rho.slope(own)
        # only layers with a nonlinear rho contribute to q
        self._curved = [k for k in self.order if not field.is_linear(k)]

    @property
    def slope(self) -> Tensor:
        """D, or G for boxed layers, [B, n]; 1 for linear layers."""
        return self.held[:, 1]

    @property
    def transposes(self) -> Wires:
        """The connections whose transposes carry the deviations backward: W itself."""
        return self.wires

    def _bound(self, current: Tensor, box: tuple[float, float], here: slice) -> None:
        super()._bound(current, box, here)
        self.slope[:, here] = (current > box[0]) & (current < box[1])

    def links(self) -> frozenset[tuple[int, int]] | None:
        return None  # a layer may send two signals

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
        for k in layers:
            own, slope = self._parts[k], self._slope[k]
            if slope is None:
                continue
            v = None if self._v[k] is own else self._v[k]
            change = self._changes[k] if self._nonlinear[k] else None
            given = (v, own, slope, change, self._free[k])
            elementwise.do(elementwise.write_signals, self._r[k], *given)


def _copied(base: Tensor | None, out: Tensor) -> Tensor:
    return out.zero_() if base is None else out.copy_(base)
