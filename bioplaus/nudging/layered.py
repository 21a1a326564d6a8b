"""Phases of layered fields: layer by layer, each given the newest states of the others."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bioplaus.fields.layered import LayeredField
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
        layers = tuple(range(len(field.layers)))
        self.last, self.looped = layers[-1], [field.acts_on_itself(k) for k in layers]
        # the signal starts at the input in a free phase and at the output in a nudged one
        self.order = layers if nudge is None else layers[::-1]
        first = [g for g in field.groups if self.order[0] in g]
        self.groups = (*first, *(g for g in field.groups if g not in first))
        self._bound_to: Tensor | None = None
        self._output_current: Tensor | None = None

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
        return self.field.current(r, self._drive, layer, out)

    def confine(self, s: Tensor, layer: int) -> Tensor:
        """Project a layer's columns onto their admissible range, in place."""
        return self.field.confine(s, layer)

    def outputs(self, own: Tensor) -> Tensor:
        """The state of the outputs, given their columns in these dynamics."""
        return own

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        parts, r = self._bind(s)
        self._fire(self.order)
        for k, there in enumerate(self.field.split(out)):
            self._to_force(self.current(r, parts, k, there), parts[k], k)
        return out

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.force(s, out)
        parts, r = self._bind(s)
        self._fire(self.groups[-1])
        for k, there in enumerate(self.field.split(out)):
            if k not in self.groups[-1] or self.looped[k]:
                self._to_force(self.current(r, parts, k, there), parts[k], k)
            else:
                there.zero_()
        return out

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        parts, r = self._bind(s)
        self._fire([k for k in self.order if k not in group or self.looped[k]])
        for k in group:
            if k == self.last and self.nudge is not None:
                self._settle_output(r, parts, self.nudge)
            elif self.looped[k]:
                there = self.current(r, parts, k, torch.empty_like(parts[k]))
                self.confine(parts[k].copy_(there), k)
            else:
                self.confine(self.current(r, parts, k, parts[k]), k)

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
            self._nonlinear = [not self.field.is_linear(k) for k in range(len(self._parts))]
            self._r = [
                torch.empty_like(part) if nonlinear else part
                for part, nonlinear in zip(self._parts, self._nonlinear, strict=True)
            ]
        return self._parts, self._r

    def _fire(self, layers: Iterable[int]) -> None:
        """Update the activities of layers."""
        for k in layers:
            if self._nonlinear[k]:
                self.field.activity(self._parts[k], k, self._r[k])

    def _to_force(self, current: Tensor, own: Tensor, k: int) -> None:
        """Turn a layer's current into its force, in place."""
        if k == self.last and self.nudge is not None:
            current.copy_(self.nudge.added_to(current, self.outputs(own)))
        self.confine(current, k).sub_(own)

    def _settle_output(self, r: Sequence[Tensor], parts: Sequence[Tensor], nudge: Nudge) -> None:
        """Step toward s = a - beta dC/ds at the current a, scaled by the curvature of C.

        The step is exact for the squared error.
        """
        own = parts[self.last]
        if self._output_current is None:
            self._output_current = torch.empty_like(own)
        a = self.current(r, parts, self.last, self._output_current)
        self._shift(own, nudge.added_to(a, self.outputs(own)).sub_(own), self.last)

    def _shift(self, own: Tensor, step: Tensor, k: int) -> None:
        if k == self.last and self.nudge is not None:
            step = self.nudge.scaled(step)
        self.confine(own.add_(step), k)
