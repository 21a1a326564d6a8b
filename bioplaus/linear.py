"""Batched GMRES over matrix-vector products: many systems at once, no matrix anywhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
        matvec: x -> A x, [B, n] -> [B, n]; every row may have a matrix of its own.
        b: right-hand sides, [B, n].
        tolerance: of ||A x - b|| / ||b||.
        max_iterations: products with A at most; as many [B, n] tensors are kept.

    Returns:
        x [B, n], and the relative residual of each row [B], measured afresh.

    Source: Saad and Schultz 1986 (SIAM J. Sci. Stat. Comput. 7), algorithm 3.
    """
    norm = torch.linalg.vector_norm(b, dim=1, keepdim=True)
    safe = torch.where(norm > 0, norm, 1.0)
    basis = [b / safe]
    columns: list[Tensor] = []
    y = b.new_zeros(len(b), 0)
    for _ in range(min(max_iterations, b.shape[1])):
        w = matvec(basis[-1])
        stacked = torch.stack(basis, 1)
        h = torch.einsum("bkn,bn->bk", stacked, w)
        w = w - torch.einsum("bkn,bk->bn", stacked, h)
        again = torch.einsum("bkn,bn->bk", stacked, w)  # a second pass keeps it orthogonal
        w = w - torch.einsum("bkn,bk->bn", stacked, again)
        size = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        columns.append(torch.cat((h + again, size), 1))
        basis.append(w / torch.where(size > 0, size, 1.0))
        y, residual = _least_squares(columns, norm)
        if bool((residual <= tolerance).all()):
            break
    x = torch.einsum("bkn,bk->bn", torch.stack(basis[: y.shape[1]], 1), y)
    end = torch.linalg.vector_norm(matvec(x) - b, dim=1, keepdim=True) / safe
    return x, end[:, 0]


def _least_squares(columns: list[Tensor], norm: Tensor) -> tuple[Tensor, Tensor]:
    """argmin_y ||norm e_1 - H y|| with the Hessenberg matrix given by columns; its residual."""
    k, batch = len(columns), norm.shape[0]
    hessenberg = norm.new_zeros(batch, k + 1, k)
    for j, column in enumerate(columns):
        hessenberg[:, : j + 2, j] = column
    target = norm.new_zeros(batch, k + 1, 1)
    target[:, 0] = norm
    q, r = torch.linalg.qr(hessenberg)
    right = q.mT @ target
    # a row that is done has a zero on the diagonal: leave that direction out
    diagonal = r.diagonal(dim1=1, dim2=2)
    dead = diagonal.abs() <= torch.finfo(norm.dtype).eps * diagonal.abs().amax(1, keepdim=True)
    r = r + torch.diag_embed(dead.to(r.dtype))
    right = torch.where(dead[..., None], 0.0, right)
    y = torch.linalg.solve_triangular(r, right, upper=True)
    residual = torch.linalg.vector_norm(hessenberg @ y - target, dim=(1, 2))
    return y[..., 0], residual / torch.where(norm > 0, norm, 1.0)[:, 0]
