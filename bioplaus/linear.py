"""Batches of linear systems: Krylov methods on matrix-vector products, and dense solves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SAFE = 128
"""The largest matrix size at which batched factorisation is reliable."""


def solve(A: Tensor, b: Tensor) -> Tensor:
    """Solve A x = b for every matrix of a batch; see `solve_ex`.

    Raises:
        torch.linalg.LinAlgError: a matrix is singular.
    """
    if _side_by_side(A):
        return torch.linalg.solve(A, b)
    return torch.stack([torch.linalg.solve(a, c) for a, c in _pairs(A, b)]).reshape(b.shape)


def solve_ex(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Solve A x = b for every matrix of a batch, and report singular matrices (info != 0).

    On a CPU with several threads torch factors the matrices of a batch in parallel. From n = 151
    on, oneMKL's LU then fails, hangs or gives wrong numbers (pytorch issues 142815 and 141358;
    torch 2.5 to 2.13). Larger matrices are therefore solved one after another, each on all
    threads. Every LU decomposition of this package goes through this function. `nlhf.linear` has
    the same guard, because the engines share no code.

    Args:
        A: [..., n, n].
        b: [..., n, m].

    Returns:
        x [..., n, m] and info [...].
    """
    if _side_by_side(A):
        x, info = torch.linalg.solve_ex(A, b)
        return x, info
    found = [torch.linalg.solve_ex(a, c) for a, c in _pairs(A, b)]
    x, info = (torch.stack([each[i] for each in found]) for i in (0, 1))
    return x.reshape(b.shape), info.reshape(A.shape[:-2])


def _side_by_side(A: Tensor) -> bool:
    alone = A.ndim == 2 or A.shape[-1] <= SAFE or A.device.type != "cpu"
    return alone or torch.get_num_threads() == 1 or not len(A)


def _pairs(A: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(A.flatten(0, -3), b.flatten(0, -3), strict=True)


@torch.no_grad()
def gmres(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
) -> tuple[Tensor, Tensor]:
    """Solve A x = b, row by row, by GMRES without restarts.

    Args:
        matvec: x -> A x, [B, n] -> [B, n]; each row may have its own matrix.
        b: right-hand sides, [B, n].
        tolerance: tolerance of ||A x - b|| / ||b||.
        max_iterations: largest number of products with A; as many [B, n] tensors are stored.

    Returns:
        x [B, n], and the relative residual of each row [B], recomputed from x.

    Source: Saad and Schultz 1986 (SIAM J. Sci. Stat. Comput. 7), algorithm 3.
    """
    norm = torch.linalg.vector_norm(b, dim=1, keepdim=True)
    safe = torch.where(norm > 0, norm, 1.0)
    basis = b.new_empty(len(b), 16, b.shape[1])
    basis[:, 0] = b / safe
    columns: list[Tensor] = []
    y = b.new_zeros(len(b), 0)
    for k in range(1, min(max_iterations, b.shape[1]) + 1):
        w, known = matvec(basis[:, k - 1]), basis[:, :k]
        w, h = without(known, w)
        size = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        columns.append(torch.cat((h, size), 1))
        if k == basis.shape[1]:
            basis = torch.cat((basis, torch.empty_like(basis)), 1)
        basis[:, k] = w / torch.where(size > 0, size, 1.0)
        y, residual = _least_squares(columns, norm)
        if bool((residual <= tolerance).all()):
            break
    x = torch.bmm(y[:, None], basis[:, : y.shape[1]])[:, 0]
    end = torch.linalg.vector_norm(matvec(x) - b, dim=1, keepdim=True) / safe
    return x, end[:, 0]


@torch.no_grad()
def ritz_values(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    products: int,
    enough: Callable[[Tensor, Tensor], bool] = lambda values, residuals: False,
) -> Tensor:
    """Ritz values of M, row by row, by the Arnoldi process; outer eigenvalues converge first.

    When the products of a row span no new dimension, the process continues from a random vector.
    The remainder is then rounding error, and Ritz values from it would not be those of M.

    Args:
        product: v -> M v, [B, n] -> [B, n], real or complex.
        start: start vectors of any norm, [B, n].
        products: largest number of products with M; as many [B, n] tensors are stored.
        enough: called from time to time with the values and the norms of their residuals M u - l u,
            u being the unit Ritz vector of value l, both [B, k]; returns whether the process may
            end.

    Returns:
        [B, k], complex, k <= min(products, n).

    Source: Saad, Numerical Methods for Large Eigenvalue Problems, section 6.2.
    """
    batch, size = len(start), min(products, start.shape[1])
    basis = start.new_zeros(batch, size + 1, start.shape[1])
    basis[:, 0] = unit(start)[0]
    hessenberg = start.new_zeros(batch, size + 1, size)
    values = start.new_zeros(batch, 0)
    rounding, rng = 1000 * torch.finfo(start.dtype).eps, torch.Generator().manual_seed(0)
    looks = _looks(size)
    for j in range(size):
        w, known = product(basis[:, j]), basis[:, : j + 1]
        size_of_product = torch.linalg.vector_norm(w, dim=1)
        w, hessenberg[:, : j + 1, j] = without(known, w)
        basis[:, j + 1], beta = unit(w)
        over = beta <= rounding * size_of_product
        if bool(over.any()):
            basis[over, j + 1] = _orthogonal_draw(known[over], rng)
            beta = torch.where(over, 0.0, beta)
        hessenberg[:, j + 1, j] = beta.to(hessenberg.dtype)
        if j + 1 in looks:
            values, vectors = torch.linalg.eig(hessenberg[:, : j + 1, : j + 1])
            if enough(values, beta[:, None] * vectors[:, -1].abs()):
                break
    return values


def _looks(size: int) -> set[int]:
    """The numbers of products after which to compute Ritz values: ever further apart.

    The last two are close to each other, so that they tell whether the values still move.
    """
    found, at = {size, max(1, size - 2)}, 4
    while at < size:
        found.add(at)
        at += max(4, at // 4)
    return found


def _orthogonal_draw(basis: Tensor, rng: torch.Generator) -> Tensor:
    """Draw a unit vector orthogonal to k others, row by row: [B, k, n] -> [B, n]."""
    batch, _, n = basis.shape
    v = torch.randn(batch, n, generator=rng, dtype=basis.dtype).to(basis.device)
    return unit(without(basis, v)[0])[0]


def without(basis: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """v - Q Q^H v and Q^H v, row by row: project v off a basis.

    This is classical Gram-Schmidt with a second pass, which removes the rounding error of the
    first. Vectors are stored as rows, because a CPU takes ten times as long with columns.

    Args:
        basis: Q^T, k orthonormal vectors, [B, k, n].
        v: [B, n].

    Returns:
        [B, n] and [B, k].

    Source: Giraud, Langou and Rozloznik 2005 (Comput. Math. Appl. 50).
    """
    row = v[:, None]
    first = torch.bmm(row, basis.mH)
    row = torch.baddbmm(row, first, basis, alpha=-1)
    second = torch.bmm(row, basis.mH)
    row = torch.baddbmm(row, second, basis, alpha=-1)
    return row[:, 0], (first + second)[:, 0]


def unit(v: Tensor) -> tuple[Tensor, Tensor]:
    """v / ||v|| of each row (zero if v is zero), and the norms."""
    norm = torch.linalg.vector_norm(v, dim=1)
    return v / torch.where(norm > 0, norm, 1.0)[:, None], norm


def _least_squares(columns: list[Tensor], norm: Tensor) -> tuple[Tensor, Tensor]:
    """argmin_y ||norm e_1 - H y|| for a Hessenberg matrix given by columns, and its residual."""
    k, batch = len(columns), norm.shape[0]
    hessenberg = norm.new_zeros(batch, k + 1, k)
    for j, column in enumerate(columns):
        hessenberg[:, : j + 2, j] = column
    target = norm.new_zeros(batch, k + 1, 1)
    target[:, 0] = norm
    q, r = torch.linalg.qr(hessenberg)
    right = q.mT @ target
    # a row that has converged has a zero on the diagonal: drop that direction
    diagonal = r.diagonal(dim1=1, dim2=2)
    dead = diagonal.abs() <= torch.finfo(norm.dtype).eps * diagonal.abs().amax(1, keepdim=True)
    r = r + torch.diag_embed(dead.to(r.dtype))
    right = torch.where(dead[..., None], 0.0, right)
    y = torch.linalg.solve_triangular(r, right, upper=True)
    residual = torch.linalg.vector_norm(hessenberg @ y - target, dim=(1, 2))
    return y[..., 0], residual / torch.where(norm > 0, norm, 1.0)[:, 0]
