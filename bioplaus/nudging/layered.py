"""Phases of layered fields: layer by layer, each given the newest states of the others."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor

from bioplaus.fields.connections import Wire
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging import elementwise
from bioplaus.nudging.nudge import Nudge
from bioplaus.precision import double
from bioplaus.solvers.base import AbstractDynamics

PER_CALLS, PER_COPY, PER_UNIT = 2_000_000, 100, 200
"""Costs of taking rows, of copying one unit of a row, and of carrying one unit through a sweep. The
unit is the time of one multiplication in a matrix product (1/30 ns); see `benchmarks/engine.py`."""


class Layered(AbstractDynamics):
    """F(s) = mu(x, s) - beta dC/ds; without a nudge, the free field mu(x, s).

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """

    def __init__(self, field: LayeredField, drive: Tensor, nudge: Nudge | None = None) -> None:
        """Fix the clamped input, given by its drive [B, ...], and the nudge."""
        self.field, self._drive, self.nudge = field, drive, nudge
        self.wires = field.wires
        layers = tuple(range(len(field.layers)))
        self.last, self.looped = layers[-1], [field.acts_on_itself(k) for k in layers]
        # the signal starts at the input in a free phase and at the output in a nudged one
        self.order = layers if nudge is None else layers[::-1]
        first = [g for g in field.groups if self.order[0] in g]
        self.groups = (*first, *(g for g in field.groups if g not in first))
        self._senders: dict[tuple[int, ...], list[int]] = {}
        self._kept: Tensor | None = None
        self._kept_of: list[Tensor | None] = [None for _ in layers]
        self._bound_to: Tensor | None = None
        self._output_current: Tensor | None = None
        self._rest: Tensor | None = None

    @property
    def drive(self) -> Tensor:
        """`field.drive(x)` for the rows, [B, ...]."""
        return self._drive

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        """The current into one layer without its leak and the nudge, written to `out`.

        Args:
            r: the activities rho(s), one tensor per layer.
            s: the state, one view per layer.
            layer: index of the layer.
            out: [B, n_layer]; may be the layer's own state.
        """
        return self.wires.sum(self._base[layer], layer, r, out)

    def confine(self, s: Tensor, layer: int) -> Tensor:
        """Project a layer's columns onto their admissible range, in place."""
        return self.field.confine(s, layer)

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        parts, r = self._bind(s)
        self._fire(self.order)
        for k, there in enumerate(self.field.split(out)):
            self._force_of(k, r, parts, there)
        return out

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.force(s, out)
        parts, r = self._bind(s)
        self._fire(self.groups[-1])
        for k, there in enumerate(self.field.split(out)):
            if k not in self.groups[-1] or self.looped[k]:
                self._force_of(k, r, parts, there)
            else:
                there.zero_()
        return out

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        parts, r = self._bind(s)
        self._fire(self._senders_to(group))
        for k in group:
            if k == self.last and self.nudge is not None:
                a = self.current(r, parts, k, self._for_output(parts[k]))
                self._settle_output(a, parts[k], self.nudge)
            elif self.looped[k]:
                there = self.current(r, parts, k, torch.empty_like(parts[k]))
                self.confine(parts[k].copy_(there), k)
            else:
                self._aim(k, r, parts, parts[k])

    def _senders_to(self, group: tuple[int, ...]) -> list[int]:
        """The layers whose activities determine a group's currents; looked up in each step."""
        if group not in self._senders:
            self._senders[group] = [k for k in self.order if k not in group or self.looped[k]]
        return self._senders[group]

    def from_rest(self) -> Self:
        self.resting = frozenset(self.order)
        return self

    def links(self) -> frozenset[tuple[int, int]] | None:
        """Pairs (source, layer) of a chain, where each layer acts on neighbours alone, or None.

        Only dense connections form one.
        """
        if math.isinf(self.wires.products):
            return None
        found = [(j, k) for k in self.order for j, _ in self._signals(k)]
        chain = all(abs(j - k) == 1 for j, k in found) and len(found) == len(set(found))
        return frozenset(found) if chain and len(self.order) > 1 else None

    def send(
        self, s: Tensor, link: tuple[int, int], out: Tensor, rows: Tensor | None = None
    ) -> None:
        """The signal from one layer to another, sum_j W_ij r_j, written to `out` [B, n_layer].

        Args:
            s: the state; the source has been settled by `settle_by`, or `fire` has been called.
            link: the layer that sends, and the one that receives.
            out: the signal.
            rows: the rows to compute, None for all; those of the others in `out` stay.
        """
        if s is not self._bound_to:
            self._bind(s)
        if rows is None or 2 * len(rows) > len(s):
            self._carry(link, None, out)
        else:
            some = out.new_empty(len(rows), out.shape[1])
            out.index_copy_(0, rows, self._carry(link, rows, some))

    def _carry(self, link: tuple[int, int], rows: Tensor | None, out: Tensor) -> Tensor:
        """The product of a wire with what its source sends, written to `out`."""
        r = self._r[link[0]]
        r = r if rows is None else r.index_select(0, rows)
        return self._wire[link].add(self._added(link), r, out)

    def _added(self, link: tuple[int, int]) -> Tensor | None:
        """The bias that is added to the signal of a link."""
        return self._bias(link[1]) if link[0] < link[1] else None

    def _bias(self, layer: int) -> Tensor | None:
        """The bias of a layer, if its signal from below brings it along."""
        base = self.field.base(self._drive, layer)
        with_signal = base is not None and base.ndim == 1 and (layer - 1, layer) in self._wire
        return base if with_signal and self.nudge is None else None

    def fire(self, s: Tensor) -> None:
        """Update the activities of all layers, so that they can `send`."""
        self._bind(s)
        self._refire(self.order)

    def receive(self, layer: int, signals: Sequence[Tensor], out: Tensor) -> Tensor:
        """The current into one layer from the signals of others, written to `out`."""
        brought = self._bias(layer) is not None
        return total(None if brought else self.field.base(self._drive, layer), signals, out)

    def settle_by(self, s: Tensor, layer: int, signals: Sequence[Tensor]) -> bool:
        """Settle one layer given the signals to it, in place; whether its force is now zero."""
        parts = self._parts if s is self._bound_to else self._bind(s)[0]
        nudged = layer == self.last and self.nudge is not None
        if nudged:
            assert self.nudge is not None
            a = self.receive(layer, signals, self._for_output(parts[layer]))
            self._settle_output(a, parts[layer], self.nudge)
        else:
            self.confine(self.receive(layer, signals, parts[layer]), layer)
        self._refire((layer,))
        if self.resting:
            self.resting = self.resting.difference((layer,))
        return not nudged

    def force_by(
        self,
        s: Tensor,
        layer: int,
        signals: Sequence[Tensor],
        out: Tensor,
        current: Tensor | None = None,
    ) -> None:
        """F of one layer given the signals to it, written to `out`; its current to `current`."""
        parts, _ = self._bind(s)
        if current is None or (box := self.field.specs[layer].box) is None:
            self._to_force(self.receive(layer, signals, out), parts[layer], layer)
        else:
            torch.clamp(self.receive(layer, signals, current), *box, out=out).sub_(parts[layer])

    def currents(self) -> Tensor | None:
        return self._kept if self.keeps else None

    def boxed(self) -> Sequence[int]:
        return [k for k in self.order if self.field.is_boxed(k)] if self.nudge is None else []

    def _signals(self, layer: int) -> Sequence[tuple[int, Wire]]:
        """The layers that act on a layer, with the wires."""
        return self.wires.within[layer]

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        parts, _ = self._bind(s)
        moves = self.field.split(step)
        for k in group:
            self._shift(parts[k], moves[k], k)

    def arranged(self, rows: Tensor) -> Tensor:
        return self.field.arranged(rows)

    def take(self, rows: Tensor) -> Layered:
        new = copy.copy(self)
        new.field = self.field.of_rows(rows)
        new.wires = new.field.wires
        new._drive = self._drive.index_select(0, rows)
        new.nudge = self.nudge and self.nudge.take(rows)
        new._bound_to = new._output_current = None
        return new

    def worth_taking(self, left: int, rows: int) -> bool:
        # costs in units of one multiplication in a matrix product: taking rows costs the copies
        # of their tensors and a fixed price for the calls; a row that stays costs its products
        # and its elementwise operations
        n = self.field.n
        saved = (rows - left) * (self.field.wires.products + PER_UNIT * n)
        return saved > PER_CALLS + PER_COPY * left * n

    def precise(self) -> Layered:
        new = copy.copy(self)
        new.field, new._drive = self.field.precise(), double(self._drive)
        new.wires = new.field.wires
        new.nudge = self.nudge and self.nudge.precise()
        new._bound_to = new._output_current = None
        return new

    def _bind(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of the layers of `s`, and buffers for their activities.

        Where rho is the identity, the view is its own buffer. Slicing costs as much as a small
        product, so it is done once per state.
        """
        if s is not self._bound_to:
            self._bound_to, self._parts = s, self.field.split(s)
            ends = range(len(self._parts))
            self._wire = {(j, k): wire for k in ends for j, wire in self._signals(k)}
            self._nonlinear = [not self.field.is_linear(k) for k in range(len(self._parts))]
            self._r = [
                torch.empty_like(part) if nonlinear else part
                for part, nonlinear in zip(self._parts, self._nonlinear, strict=True)
            ]
            self._bind_held()
        return self._parts, self._r

    def _bind_held(self) -> None:
        """Look up by layer what a phase holds fixed, and make room for what a free one keeps."""
        self._base = [self.field.base(self._drive, k) for k in sorted(self.order)]
        if boxed := self.boxed():
            assert self._bound_to is not None
            self._kept = torch.zeros_like(self._bound_to)
            parts = self.field.split(self._kept)
            self._kept_of = [own if k in boxed else None for k, own in enumerate(parts)]

    def _refire(self, layers: Iterable[int]) -> None:
        """Update what layers `send`."""
        self._fire(layers)

    def _fire(self, layers: Iterable[int]) -> None:
        """Update the activities of layers."""
        for k in layers:
            if self._nonlinear[k]:
                elementwise.fire(self.field.specs[k].rho, self._parts[k], self._r[k])

    def _aim(self, k: int, r: Sequence[Tensor], parts: Sequence[Tensor], out: Tensor) -> Tensor:
        """A layer's current within its box, written to `out`; keeps the current if asked to."""
        if not self.keeps or (kept := self._kept_of[k]) is None:
            return self.confine(self.current(r, parts, k, out), k)
        box = self.field.specs[k].box
        assert box is not None
        return torch.clamp(self.current(r, parts, k, kept), *box, out=out)

    def _force_of(self, k: int, r: Sequence[Tensor], parts: Sequence[Tensor], out: Tensor) -> None:
        """F of one layer, written to `out`."""
        if k == self.last and self.nudge is not None:
            self._to_force(self.current(r, parts, k, out), parts[k], k)
        else:
            self._aim(k, r, parts, out).sub_(parts[k])

    def _to_force(self, current: Tensor, own: Tensor, k: int) -> None:
        """Turn a layer's current into its force, in place."""
        if k == self.last and self.nudge is not None:
            self._pull(current, own, self.nudge)
        self.confine(current, k).sub_(own)

    def _for_output(self, own: Tensor) -> Tensor:
        """A buffer for the current of the outputs, [B, m]."""
        if self._output_current is None:
            self._output_current = torch.empty_like(own)
        return self._output_current

    def _settle_output(self, a: Tensor, own: Tensor, nudge: Nudge) -> None:
        """Step toward s = a - beta dC/ds at the current a, scaled by the curvature of C.

        The step is exact for the squared error.
        """
        self._pull(a, own, nudge)
        self.confine(own.lerp_(a, nudge.scale), self.last)

    def _pull(self, current: Tensor, own: Tensor, nudge: Nudge) -> None:
        """Add -beta dC/ds to the current of the outputs, in place."""
        elementwise.pull(current, own, self._rest, nudge.beta, nudge.slope)

    def _shift(self, own: Tensor, step: Tensor, k: int) -> None:
        if k == self.last and self.nudge is not None:
            step = self.nudge.scaled(step)
        self.confine(own.add_(step), k)


def total(base: Tensor | None, signals: Sequence[Tensor], out: Tensor) -> Tensor:
    """The sum of `signals` and `base`, written to `out`; None means zero."""
    if not signals:
        return out.zero_() if base is None else out.copy_(base)
    first, *others = (*signals, base) if base is not None else signals
    if not others:
        return out.copy_(first)
    torch.add(first, others[0], out=out)
    for each in others[1:]:
        out.add_(each)
    return out
