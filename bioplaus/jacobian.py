"""The Jacobian J_s = dmu/ds of a field: products, asymmetry, norms, spectral radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.fields.base import AbstractField
from bioplaus.linear import gmres

DENSE_UP_TO = 2000
"""No dense Jacobian is formed for a larger state."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Asymmetry:
    """How far a Jacobian is from symmetric, averaged over the rows of a batch.

    Attributes:
        ratio: ||J - J^T||_F / ||J + J^T||_F.
        standard_error: of `ratio`; zero where it is exact.
        symmetry_share: S / (S + A), Frobenius norms of the symmetric and antisymmetric parts.
        probes: random vectors a row; zero where it is exact.
    """

    ratio: float
    standard_error: float
    symmetry_share: float
    probes: int


@torch.no_grad()
def dense_jacobian(field: AbstractField, s: Tensor) -> Tensor:
    """J_s of each row, [B, n, n]."""
    eye = torch.eye(field.n, dtype=s.dtype, device=s.device)
    return torch.stack([field.jvp(row.expand(field.n, -1), eye).T for row in s])


@torch.no_grad()
def exact_asymmetry(field: AbstractField, s: Tensor) -> Asymmetry:
    """The asymmetry from dense Jacobians, one row at a time."""
    ratios = []
    for row in s:
        j = dense_jacobian(field, row[None])[0]
        ratios.append(torch.linalg.matrix_norm(j - j.T) / torch.linalg.matrix_norm(j + j.T))
    return _asymmetry(torch.stack(ratios), torch.zeros(len(s)), 0)


@torch.no_grad()
def hutchinson_asymmetry(
    field: AbstractField, s: Tensor, *, probes: int = 32, generator: torch.Generator | None = None
) -> Asymmetry:
    """The asymmetry from random products, without a matrix.

    ||M||_F^2 = E ||M e||^2 for random signs e. With a_i, b_i the draws for J - J^T and J + J^T
    (the same e_i), the ratio sqrt(mean a / mean b) has by the delta method the standard error
    ratio / 2 * sd(a / mean a - b / mean b) / sqrt(probes).

    Source: Hutchinson 1990 (Commun. Stat. Simul. Comput. 19).
    """
    draws = []
    for _ in range(probes):
        coins = torch.randint(0, 2, s.shape, generator=generator)
        e = (2 * coins - 1).to(s)
        forth, back = field.jvp(s, e), field.vjp(s, e)
        draws.append(torch.stack(((forth - back).square().sum(1), (forth + back).square().sum(1))))
    a, b = torch.stack(draws, -1)  # [B, probes] each
    mean_a, mean_b = a.mean(1), b.mean(1)
    ratio = (mean_a / mean_b).sqrt()
    tiny = torch.finfo(s.dtype).tiny
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
    """||M||_2 of each row by the Lanczos process on M^T M, from below, [B].

    Args:
        product: v -> M v, [B, n] -> [B, n].
        transposed: v -> M^T v.
        start: any [B, n]; its direction is where the process begins.
        iterations: products with M^T M at most.
        tolerance: relative change of ||M||^2 at which it ends.

    Source: Golub and Van Loan, Matrix Computations, section 10.1.
    """
    basis, alphas, betas = [_unit(start)[0]], [], []
    value = start.new_zeros(len(start))
    for _ in range(min(iterations, start.shape[1])):
        w = transposed(product(basis[-1]))
        alphas.append((w * basis[-1]).sum(1))
        stacked = torch.stack(basis, 1)
        for _ in range(2):  # full orthogonalisation
            w = w - torch.einsum("bkn,bk->bn", stacked, torch.einsum("bkn,bn->bk", stacked, w))
        unit, beta = _unit(w)
        newest = _largest(alphas, betas)
        settled = (newest - value).abs() <= tolerance * newest.abs()
        value = newest
        if bool((settled | (beta <= 1e-14 * newest.abs())).all()):
            break
        basis.append(unit)
        betas.append(beta)
    return value.clamp_min(0).sqrt()


@torch.no_grad()
def inverse_norm(field: AbstractField, s: Tensor, *, generator: torch.Generator) -> Tensor:
    """||J_s^-1||_2 of each row, [B]: dense up to DENSE_UP_TO units, else Lanczos over GMRES."""
    if field.n <= DENSE_UP_TO and len(s) * field.n**2 <= 4_000_000:
        return 1 / torch.linalg.svdvals(dense_jacobian(field, s))[:, -1]
    start = torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device)
    tolerance = torch.finfo(s.dtype).eps ** 0.5
    return spectral_norm(
        lambda v: gmres(lambda u: field.jvp(s, u), v, tolerance=tolerance)[0],
        lambda v: gmres(lambda u: field.vjp(s, u), v, tolerance=tolerance)[0],
        start,
        iterations=20,
        tolerance=tolerance,
    )


@torch.no_grad()
def asymmetry_norm(field: AbstractField, s: Tensor, *, generator: torch.Generator) -> Tensor:
    """||D J_s - J_s^T D||_2 of each row, D what the local rule sees of ds (one if all), [B]."""
    start = torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device)
    d = field.seen(s)

    def odd(v: Tensor) -> Tensor:
        if d is None:
            return field.jvp(s, v) - field.vjp(s, v)
        return d * field.jvp(s, v) - field.vjp(s, d * v)

    tolerance = 16 * torch.finfo(s.dtype).eps
    return spectral_norm(odd, lambda v: -odd(v), start, tolerance=tolerance)


@torch.no_grad()
def spectral_radius(field: AbstractField, s: Tensor, *, generator: torch.Generator) -> Tensor:
    """The largest |eigenvalue| of J_s + 1 (what one Euler step with dt = 1 multiplies), [B].

    Dense up to DENSE_UP_TO units; above, the Ritz values of an Arnoldi process of 60 products.
    """
    if field.n <= DENSE_UP_TO and len(s) * field.n**2 <= 4_000_000:
        shifted = dense_jacobian(field, s) + torch.eye(field.n, dtype=s.dtype, device=s.device)
        return torch.linalg.eigvals(shifted).abs().amax(1)
    basis = [_unit(torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device))[0]]
    size = min(60, field.n)
    hessenberg = s.new_zeros(len(s), size, size)
    for j in range(size):
        w = field.jvp(s, basis[-1]) + basis[-1]
        stacked = torch.stack(basis, 1)
        for _ in range(2):
            h = torch.einsum("bkn,bn->bk", stacked, w)
            hessenberg[:, : j + 1, j] += h
            w = w - torch.einsum("bkn,bk->bn", stacked, h)
        unit, beta = _unit(w)
        if j + 1 < size:
            hessenberg[:, j + 1, j] = beta
            basis.append(unit)
    return torch.linalg.eigvals(hessenberg).abs().amax(1)


def _unit(v: Tensor) -> tuple[Tensor, Tensor]:
    norm = torch.linalg.vector_norm(v, dim=1)
    return v / torch.where(norm > 0, norm, 1.0)[:, None], norm


def _largest(alphas: list[Tensor], betas: list[Tensor]) -> Tensor:
    """The largest eigenvalue of the tridiagonal matrices of a Lanczos process, [B]."""
    matrix = torch.diag_embed(torch.stack(alphas, 1))
    if betas:
        off = torch.diag_embed(torch.stack(betas, 1), offset=1)
        matrix = matrix + off + off.mT
    return torch.linalg.eigvalsh(matrix)[:, -1]
