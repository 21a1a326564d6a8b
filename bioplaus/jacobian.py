"""Measures of a Jacobian J_s = dmu/ds: asymmetry, norms, spectral radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.linear import gmres, ritz_values, unit, without

DENSE_UP_TO = 2000
"""The largest state for which a dense Jacobian is formed."""

RESOLVED = 0.1
"""The largest relative residual at which the result of a Lanczos process is accepted. The error of
||M||^2 is about its square."""

AT_REST = 1e-2
"""The largest relative change at which the result of an Arnoldi process is accepted."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Asymmetry:
    """How far a Jacobian is from symmetric, averaged over the rows of a batch.

    Attributes:
        ratio: ||J - J^T||_F / ||J + J^T||_F.
        standard_error: standard error of `ratio`; zero if it is exact.
        symmetry_share: S / (S + A), Frobenius norms of the symmetric and antisymmetric parts.
        probes: random vectors per row; zero if the measures are exact.
    """

    ratio: float
    standard_error: float
    symmetry_share: float
    probes: int


@torch.no_grad()
def dense_jacobian(at: AbstractLinearisation) -> Tensor:
    """J_s of each row, [B, n, n]."""
    n, rows = at.n, len(at.s)
    eye = torch.eye(n, dtype=at.s.dtype, device=at.s.device)
    each = torch.arange(rows, device=at.s.device)
    return torch.stack([at.take(row.expand(n)).jvp(eye).T for row in each])


@torch.no_grad()
def exact_asymmetry(at: AbstractLinearisation) -> Asymmetry:
    """The asymmetry from dense Jacobians, one row at a time."""
    ratios = []
    for row in range(len(at.s)):
        j = dense_jacobian(at.take(slice(row, row + 1)))[0]
        ratios.append(torch.linalg.matrix_norm(j - j.T) / torch.linalg.matrix_norm(j + j.T))
    return _asymmetry(torch.stack(ratios), torch.zeros(len(ratios)), 0)


@torch.no_grad()
def hutchinson_asymmetry(
    at: AbstractLinearisation, *, probes: int = 32, generator: torch.Generator | None = None
) -> Asymmetry:
    """Estimate the asymmetry from random products, without forming a matrix.

    ||M||_F^2 = E ||M e||^2 for random signs e. With a_i, b_i the draws for J - J^T and J + J^T
    (the same e_i), the ratio sqrt(mean a / mean b) has by the delta method the standard error
    ratio / 2 * sd(a / mean a - b / mean b) / sqrt(probes).

    Source: Hutchinson 1990 (Commun. Stat. Simul. Comput. 19).
    """
    draws = []
    for _ in range(probes):
        coins = torch.randint(0, 2, at.s.shape, generator=generator)
        e = (2 * coins - 1).to(at.s)
        forth, back = at.jvp(e), at.vjp(e)
        draws.append(torch.stack(((forth - back).square().sum(1), (forth + back).square().sum(1))))
    a, b = torch.stack(draws, -1)  # [B, probes] each
    mean_a, mean_b = a.mean(1), b.mean(1)
    ratio = (mean_a / mean_b).sqrt()
    tiny = torch.finfo(ratio.dtype).tiny
    spread = a / mean_a.clamp_min(tiny)[:, None] - b / mean_b[:, None]
    error = 0.5 * ratio * spread.std(1) / probes**0.5
    return _asymmetry(ratio, error, probes)


def _asymmetry(ratio: Tensor, error: Tensor, probes: int) -> Asymmetry:
    return Asymmetry(
        ratio=float(ratio.mean()),
        standard_error=float(error.square().sum().sqrt() / len(error)),
        symmetry_share=float((1 / (1 + ratio)).mean()),
        probes=probes,
    )


@torch.no_grad()
def spectral_norm(
    product: Product,
    transposed: Product,
    start: Tensor,
    *,
    iterations: int = 100,
    tolerance: float = 1e-12,
) -> Tensor:
    """A lower estimate of ||M||_2 for each row by the Lanczos process on M^T M, [B].

    It is NaN if the process ended with a residual above RESOLVED times ||M||^2, since the estimate
    may then be far too low.

    Args:
        product: v -> M v, [B, n] -> [B, n].
        transposed: v -> M^T v.
        start: start vectors of any norm, [B, n].
        iterations: largest number of products with M^T M.
        tolerance: relative change of ||M||^2 at which the process ends.

    Source: Golub and Van Loan, Matrix Computations, section 10.1.
    """
    basis, alphas, betas = [unit(start)[0]], [], []
    value = residual = start.new_zeros(len(start))
    for _ in range(min(iterations, start.shape[1])):
        w = transposed(product(basis[-1]))
        alphas.append((w * basis[-1]).sum(1))
        newest_vector, beta = unit(without(torch.stack(basis, 1), w)[0])
        newest, last = _largest(alphas, betas)
        settled = (newest - value).abs() <= tolerance * newest.abs()
        value = newest
        residual = beta * last
        if bool((settled | (beta <= 1e-14 * newest.abs())).all()):
            break
        basis.append(newest_vector)
        betas.append(beta)
    resolved = residual <= RESOLVED * value.abs()
    return torch.where(resolved, value.clamp_min(0).sqrt(), torch.nan)


@torch.no_grad()
def inverse_norm(at: AbstractLinearisation, *, generator: torch.Generator) -> Tensor:
    """||J_s^-1||_2 of each row, [B]: dense up to DENSE_UP_TO units, else Lanczos over GMRES.

    It is NaN if a solve or the process has not converged.
    """
    if _dense_fits(at):
        return 1 / torch.linalg.svdvals(dense_jacobian(at))[:, -1]
    start = _random_like(at.s, generator)
    tolerance = torch.finfo(start.dtype).eps ** 0.5
    solved = torch.ones(len(start), dtype=torch.bool, device=start.device)

    def solve(product: Product, v: Tensor) -> Tensor:
        x, residual = gmres(product, v, tolerance=tolerance)
        solved.logical_and_(residual <= AT_REST)
        return x

    norm = spectral_norm(
        lambda v: solve(at.jvp, v),
        lambda v: solve(at.vjp, v),
        start,
        iterations=20,
        tolerance=tolerance,
    )
    return torch.where(solved, norm, torch.nan)


@torch.no_grad()
def asymmetry_norm(
    at: AbstractLinearisation, slope: Tensor | None, *, generator: torch.Generator
) -> Tensor:
    """||D J_s - J_s^T D||_2 of each row, [B]; the local rule sees D ds (None: D = 1)."""
    start = _random_like(at.s, generator)

    def odd(v: Tensor) -> Tensor:
        if slope is None:
            return at.jvp(v) - at.vjp(v)
        return slope * at.jvp(v) - at.vjp(slope * v)

    tolerance = 16 * torch.finfo(start.dtype).eps
    return spectral_norm(odd, lambda v: -odd(v), start, tolerance=tolerance)


@torch.no_grad()
def spectral_radius(at: AbstractLinearisation, *, generator: torch.Generator) -> Tensor:
    """The largest |eigenvalue| of J_s + 1 (what one Euler step with dt = 1 multiplies), [B].

    Up to DENSE_UP_TO units it is computed from the dense matrix. Above, it is the largest Ritz
    value of an Arnoldi process of 150 products, or NaN if its relative change still exceeds
    AT_REST.
    """
    if _dense_fits(at):
        eye = torch.eye(at.n, dtype=at.s.dtype, device=at.s.device)
        return torch.linalg.eigvals(dense_jacobian(at) + eye).abs().amax(1)
    start = _random_like(at.s, generator)
    moving = _Moving()
    radius = ritz_values(lambda v: at.jvp(v) + v, start, products=150, enough=moving).abs().amax(1)
    if at.n <= 150:
        return radius  # the process is complete
    return torch.where(moving.change <= AT_REST * radius, radius, torch.nan)


class _Moving:
    """Tracks the change of the largest Ritz values between the last two checks, [B]."""

    def __init__(self) -> None:
        self.newest = self.change = torch.tensor(torch.inf)

    def __call__(self, values: Tensor, residuals: Tensor) -> bool:
        radius = values.abs().amax(1)
        self.change = (radius - self.newest.to(radius)).abs()
        self.newest = radius
        return bool((self.change <= torch.finfo(radius.dtype).eps ** 0.5 * radius).all())


def _dense_fits(at: AbstractLinearisation) -> bool:
    return at.n <= DENSE_UP_TO and at.s.numel() * at.n <= 4_000_000


def _random_like(s: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device)


def _largest(alphas: list[Tensor], betas: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue of the tridiagonal matrices of a Lanczos process, [B].

    The second result is the absolute last entry of its unit eigenvector; multiplied by the next
    beta, it gives the residual.
    """
    matrix = torch.diag_embed(torch.stack(alphas, 1))
    if betas:
        off = torch.diag_embed(torch.stack(betas, 1), offset=1)
        matrix = matrix + off + off.mT
    values, vectors = torch.linalg.eigh(matrix)
    return values[:, -1], vectors[:, -1, -1].abs()
