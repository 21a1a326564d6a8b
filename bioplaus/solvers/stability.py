"""Whether a zero of F is an attractor: the largest real part of the eigenvalues of dF/ds."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.linear import ritz_values
from bioplaus.precision import double
from bioplaus.solvers.base import AbstractDynamics

DENSE_UP_TO = 64
"""Up to this state size all eigenvalues are computed; above, Ritz values."""

PRODUCTS = 160
"""Largest number of products with dF/ds for the Ritz values."""

CLEARLY = 0.05
"""How far below zero the rightmost Ritz value, plus twice its residual, is clearly negative."""

ACCURATE = 2.5e-3
"""Residual of a rightmost Ritz value that is not clearly negative; relative to values beyond 1."""

STEP = 1e-5
"""Step of finite differences, in units of the state's root mean square (or of 1, if larger)."""

AT_ONCE = 4_000_000
"""Number of state entries computed in one batch."""


@torch.no_grad()
def abscissa(dynamics: AbstractDynamics, s: Tensor) -> Tensor:
    """max Re lambda(dF/ds) of each row, negative at an attractor of ds/dt = F(s).

    The spectral radius of dF/ds + 1 is no such criterion, since it may exceed one at an attractor.
    Products with dF/ds are finite differences of F in double precision, which work for any
    dynamics. Up to DENSE_UP_TO units the eigenvalues have an error of about 1e-9. Above, the value
    is the rightmost Ritz value of an Arnoldi process. The process ends when the value is clearly
    negative in view of its residual, or when the residual is small; the value is an eigenvalue of a
    matrix that differs from dF/ds by no more than that. It may still be too low if PRODUCTS do not
    suffice, or if the start vector hardly contains the eigenvector.

    Args:
        dynamics: F, [B, n].
        s: states, [B, n], zeros of F.

    Returns:
        [B], float64, per unit of F's time; NaN where F is not finite around the state.
    """
    n, rows = s.shape[1], torch.arange(len(s), device=s.device)
    copies = n if n <= DENSE_UP_TO else PRODUCTS
    found = [
        _rightmost(dynamics.take(part), s[part])
        for part in rows.split(max(1, AT_ONCE // (copies * n)))
    ]
    return torch.cat(found) if found else s.real.new_zeros(0, dtype=torch.float64)


def _rightmost(dynamics: AbstractDynamics, s: Tensor) -> Tensor:
    s = double(s)
    batch, n = s.shape
    if n <= DENSE_UP_TO:
        many = torch.arange(batch, device=s.device).repeat_interleave(n)
        eye = torch.eye(n, dtype=s.dtype, device=s.device).repeat(batch, 1)
        columns = _Derivative(dynamics.take(many), s[many]).central(eye)
        matrices = columns.view(batch, n, n).mT
        sound = torch.isfinite(matrices).all(dim=2).all(dim=1)
        values = torch.linalg.eigvals(torch.where(sound[:, None, None], matrices, 0.0))
        return torch.where(sound, values.real.amax(1), torch.nan)
    start = torch.randn(s.shape, generator=torch.Generator().manual_seed(0), dtype=s.dtype)
    derivative, start = _Derivative(dynamics, s), start.to(s.device)
    sound = torch.isfinite(derivative.forward(start)).all(1)
    values = ritz_values(
        lambda v: torch.where(sound[:, None], derivative.forward(v), 0.0),
        start,
        products=PRODUCTS,
        enough=_resolved,
    )
    return torch.where(sound, values.real.amax(1), torch.nan)


def _resolved(values: Tensor, residuals: Tensor) -> bool:
    """Whether the sign of every row's rightmost Ritz value is clear, or the value accurate."""
    rightmost, at = values.real.max(1)
    residual = residuals.gather(1, at[:, None])[:, 0]
    clear = rightmost + 2 * residual < -CLEARLY
    return bool((clear | (residual <= ACCURATE * rightmost.abs().clamp_min(1.0))).all())


class _Derivative:
    """dF/ds at states `s` [B, n], as products by finite differences of F in double precision."""

    def __init__(self, dynamics: AbstractDynamics, s: Tensor) -> None:
        self.s, self.dynamics = s, dynamics.precise()
        self.moved, self.force = s.clone(), torch.empty_like(s)
        self.size = torch.linalg.vector_norm(s, dim=1, keepdim=True) / s.shape[1] ** 0.5
        self.here: Tensor | None = None

    def forward(self, v: Tensor) -> Tensor:
        """(F(s + h v) - F(s)) / h, with an error of order h."""
        if self.here is None:
            self.here = self._at(torch.zeros_like(v)).clone()
        h = self._step(v)
        return self._at(h * v).sub(self.here).div_(h)

    def central(self, v: Tensor) -> Tensor:
        """(F(s + h v) - F(s - h v)) / (2 h), with an error of order h^2."""
        h = self._step(v)
        ahead = self._at(h * v).clone()
        return ahead.sub_(self._at(-h * v)).div_(2 * h)

    def _step(self, v: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        return STEP * self.size.clamp_min(1.0) / torch.where(length > 0, length, 1.0)

    def _at(self, displacement: Tensor) -> Tensor:
        torch.add(self.s, displacement, out=self.moved)
        return self.dynamics.force(self.moved, self.force)
