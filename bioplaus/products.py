"""Products with the derivative of a function, by reverse mode only.

Forward mode makes torch compile its decompositions at first use, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp


def pushforward(f: Callable[[Tensor], Tensor], s: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> (df/ds) v at `s`: the transpose of the linear map u -> (df/ds)^T u."""
    value, pull = vjp(f, s)[:2]
    push = vjp(lambda u: pull(u)[0], torch.zeros_like(value))[1]
    return lambda v: push(v)[0]
