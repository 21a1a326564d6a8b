"""Products with the derivative of a function, by reverse mode alone.

Forward mode has torch compile its decompositions at the first use, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp


def pushforward(f: Callable[[Tensor], Tensor], s: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> (df/ds) v at `s`: what transposes u -> (df/ds)^T u, which is linear."""
    value, pull = vjp(f, s)[:2]
    push = vjp(lambda u: pull(u)[0], torch.zeros_like(value))[1]
    return lambda v: push(v)[0]
