"""Examples to learn and to be tested on: inputs, and labels or target vectors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bioplaus.costs import one_hot
from bioplaus.data.facts import Facts
from bioplaus.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and what is to be said of them.

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
        """The first `n`; all if None."""
        return self if n is None else Examples(self.inputs[:n], self.targets[:n])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to learn and to be tested on.

    Attributes:
        name: "mnist", "fashion-mnist", a folder's or a file's name, or what the user says.
        train: to learn.
        test: to be tested on; none of them where the user gave none.
        shape: of one input: (784,), (28, 28), (3, 32, 32); the inputs themselves are flat.
        num_outputs: classes, or length of a target vector.
        sha256: hexadecimal, of what was read, whole, however many items were asked for.
        class_names: of each label; none where the classes have only numbers.
        facts: what the items are like.
    """

    name: str
    train: Examples
    test: Examples
    shape: tuple[int, ...]
    num_outputs: int
    sha256: str
    class_names: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)

    @property
    def input_size(self) -> int:
        """Numbers of an input: the product of `shape`."""
        return math.prod(self.shape)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of an input; None where it is no image."""
        shape = (1, *self.shape) if len(self.shape) == 2 else self.shape
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None

    @property
    def has_labels(self) -> bool:
        """Whether the targets are classes, and not vectors."""
        return self.train.targets.ndim == 1

    @property
    def num_classes(self) -> int | None:
        """How many classes there are; None where the targets are vectors."""
        return self.num_outputs if self.has_labels else None

    @property
    def shown(self) -> Examples:
        """Those to look at a network with: the test examples, or else the others."""
        return self.test if len(self.test) else self.train

    def vectors(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """What the outputs are to be, [N, num_outputs]: labels as one-hot rows."""
        if targets.ndim == 1:
            return one_hot(targets, self.num_outputs, dtype)
        return targets.to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Dataset:
        """The same examples on another device, or in another floating-point type."""
        parts = {}
        for name in ("train", "test"):
            part: Examples = getattr(self, name)
            target_dtype = None if part.targets.ndim == 1 else dtype
            parts[name] = Examples(
                part.inputs.to(device=device, dtype=dtype),
                part.targets.to(device=device, dtype=target_dtype),
            )
        return dataclasses.replace(self, **parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        names = [each.name for each in dataclasses.fields(self)]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        return hash((self.name, self.sha256, self.shape))

    def __repr__(self) -> str:
        kind = "classes" if self.has_labels else "numbers a target"
        return (
            f"Dataset({self.name!r}, {len(self.train)} to learn, {len(self.test)} to test, "
            f"shape {self.shape}, {self.num_outputs} {kind})"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield the indices 0..n-1 in batches, each index once, the last batch shorter if need be.

    Args:
        n: number of items, >= 1.
        batch_size: >= 1.
        generator: shuffles (on its device); without one the order is kept.

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
