"""The exact untied method: the nudged phases run with the Jacobian's asymmetry cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.estimators.difference import AbstractDifference
from bioplaus.fields.base import AbstractField
from bioplaus.nudging import Nudge, Nudged
from bioplaus.precision import double
from bioplaus.solvers import AbstractDynamics


class Symmetrised(Nudged):
    """F(s) = mu(s) - beta c(s) - (J - J^T)(s - s*), J the Jacobian at the free fixed point s*.

    The Jacobian of F at s* is J^T, so that ds_beta/dbeta = J^-T c. With v = s - s* and
    D = diag rho'(s*), the current of a layer is W (rho(s) - D v) + b + D W^T v: two products in
    place of the three of mu, J v and J^T v. Where rho is the identity everywhere (a box), it is
    W s* + b + D W^T D v, D marking the units whose current lies inside: one product, as in the
    plain field.
    """

    def __init__(self, field: AbstractField, drive: Tensor, nudge: Nudge, free: Tensor) -> None:
        """Fix the clamped input, the nudge and the free fixed point [B, n]."""
        super().__init__(field, drive, nudge)
        self.free, self.slope = free, torch.empty_like(free)
        self.boxed = field.is_linear()
        self.base = torch.empty_like(free) if self.boxed else None
        own = field.split(free)
        currents = own if self.base is None else field.split(self.base)
        for k, slope in enumerate(field.split(self.slope)):
            if self.boxed:
                field.current(own, drive, k, currents[k])
            slope.copy_(field.layer_slope(own[k], currents[k], k))

    def current(self, r: Sequence[Tensor], s: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        back = self.field.transposed_current(self._v, layer, self._back[layer])
        if self.boxed:
            return torch.addcmul(self._base_parts[layer], self._slope[layer], back, out=out)
        self.field.current(self._q, self.drive, layer, out)
        return out.addcmul_(self._slope[layer], back)

    def take(self, rows: Tensor) -> Symmetrised:
        new = super().take(rows)
        assert isinstance(new, Symmetrised)
        new.free, new.slope = self.free[rows], self.slope[rows]
        new.base = None if self.base is None else self.base[rows]
        return new

    def precise(self) -> Symmetrised:
        new = super().precise()
        assert isinstance(new, Symmetrised)
        new.free, new.slope = double(self.free), double(self.slope)
        new.base = None if self.base is None else double(self.base)
        return new

    def _bind(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if s is not self._bound:
            split = self.field.split
            self._free, self._slope = split(self.free), split(self.slope)
            self._v, self._back = (
                [torch.empty_like(part) for part in self._free] for _ in range(2)
            )
            if self.base is None:
                self._q = [torch.empty_like(part) for part in self._free]
            else:
                self._base_parts = split(self.base)
        return super()._bind(s)

    def _fire(self, layers: Iterable[int]) -> None:
        layers = list(layers)
        super()._fire(layers)
        for k in layers:
            v = torch.sub(self._parts[k], self._free[k], out=self._v[k])
            if self.boxed:
                v.mul_(self._slope[k])
            else:
                torch.addcmul(self._r[k], self._slope[k], v, value=-1, out=self._q[k])


@dataclass(frozen=True)
class AsymEP(AbstractDifference):
    """(dmu/dtheta)^T ds_beta/dbeta in the symmetrised field: exact as beta -> 0.

    ds_beta/dbeta -> J^-T c for any asymmetry, so that the estimate -> -dJ/dtheta, with error
    O(beta) one-sided and O(beta^2) centered. The rule sees the change of the state itself, in
    every kind of coordinates.

    Source: Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670).
    """

    name = "asym-ep"

    def dynamics(
        self, field: AbstractField, drive: Tensor, nudge: Nudge, free: Tensor
    ) -> AbstractDynamics:
        return Symmetrised(field, drive, nudge, free)

    def displacement(self, field: AbstractField, s_plus: Tensor, s_minus: Tensor) -> Tensor:
        return s_plus - s_minus
