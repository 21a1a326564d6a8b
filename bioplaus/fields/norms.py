"""||dmu/dtheta||_2 of any field by autograd, for the bound on the error of an estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import vjp, vmap

LARGEST = 50_000_000
"""The largest number of entries of one row's dmu/dtheta for which it is formed."""

Explicit = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]


def parameter_norms(
    mu: Explicit, parameters: Mapping[str, Tensor], x: Tensor, s: Tensor
) -> dict[str, Tensor] | None:
    """The largest singular value of dmu/dtheta of each row, [B], by parameter and for "all".

    None if the matrix of a row has more than LARGEST entries.

    Args:
        mu: mu(theta, x, s), [B, n].
        parameters: theta, by name.
        x: the clamped input, one per row.
        s: the states, [B, n].
    """
    theta, n = dict(parameters), s.shape[1]
    if n * sum(p.numel() for p in theta.values()) > LARGEST:
        return None
    eye = torch.eye(n, dtype=s.dtype, device=s.device)
    found: dict[str, list[Tensor]] = {name: [] for name in (*theta, "all")}
    for row in range(len(s)):
        here = slice(row, row + 1)
        pull = vjp(lambda p, here=here: mu(p, x[here], s[here])[0], theta)[1]
        (columns,) = vmap(pull)(eye)
        whole = torch.zeros_like(eye)
        for name, column in columns.items():
            gram = column.reshape(n, -1) @ column.reshape(n, -1).T
            found[name].append(_root(gram))
            whole += gram
        found["all"].append(_root(whole))
    return {name: torch.stack(values) for name, values in found.items()}


def _root(gram: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt()
