"""Batched dense linear solves that are correct on any number of threads."""

from __future__ import annotations

import torch
from torch import Tensor

SAFE = 128
"""Largest matrix size that is factored correctly in parallel."""


def solve(A: Tensor, b: Tensor) -> Tensor:
    """Solve A x = b for every matrix of a batch.

    On a CPU with several threads, torch factors the matrices of a batch in parallel. From n = 151
    oneMKL's LU then fails, hangs or returns wrong numbers (pytorch issues 142815 and 141358;
    torch 2.5 to 2.13). Larger matrices are therefore solved one after another, each on all
    threads. Every LU of this package goes through this function. `bioplaus.linear` has the same
    guard, because the engines share no code.

    Args:
        A: [..., n, n].
        b: [..., n, m].

    Returns:
        x, [..., n, m]; NaN where a matrix is singular.
    """
    alone = A.ndim == 2 or A.shape[-1] <= SAFE or A.device.type != "cpu"
    if alone or torch.get_num_threads() == 1 or not len(A):
        x, info = torch.linalg.solve_ex(A, b)
    else:
        pairs = zip(A.flatten(0, -3), b.flatten(0, -3), strict=True)
        found = [torch.linalg.solve_ex(matrix, right) for matrix, right in pairs]
        x = torch.stack([each[0] for each in found]).reshape(b.shape)
        info = torch.stack([each[1] for each in found]).reshape(A.shape[:-2])
    return torch.where((info == 0)[..., None, None], x, torch.nan)
