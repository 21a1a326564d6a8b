"""Inputs with their targets, and the order in which they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bioplaus.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their targets.

    Attributes:
        inputs: [N, D], floating point; images flat, channels x height x width.
        targets: labels [N], int64 from 0; or target vectors [N, m], floating point.
    """

    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.inputs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Examples):
            return NotImplemented
        return _equal(self.inputs, other.inputs) and _equal(self.targets, other.targets)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        what = "labels" if self.targets.ndim == 1 else "target vectors"
        return f"Examples({len(self)}, inputs {list(self.inputs.shape)}, {what})"

    def first(self, n: int | None) -> Examples:
        """The first `n` examples; all if `n` is None."""
        return self if n is None else Examples(self.inputs[:n], self.targets[:n])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield the indices 0..n-1 in batches, each index once, the last batch shorter if need be.

    Args:
        n: number of items, >= 1.
        batch_size: >= 1.
        generator: shuffles the indices (on its device); without one the order is kept.

    Raises:
        InputError: `n` or `batch_size` is below 1.
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name}={value} gives no batch: use {name} >= 1")
    if generator is None:
        order = torch.arange(n)
    else:
        order = torch.randperm(n, generator=generator, device=generator.device)
    return iter(order.split(batch_size))
