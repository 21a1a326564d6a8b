"""The result of a reader: arrays as they are stored, with facts about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Channels = Literal["first", "last"]


@dataclass(frozen=True)
class Part:
    """The training or the test examples, as they are stored.

    Attributes:
        inputs: [N, ...].
        targets: labels [N], or target vectors [N, m].
        inputs_name: name of the inputs in messages: a file or an argument.
        targets_name: likewise for the targets.
    """

    inputs: np.ndarray
    targets: np.ndarray
    inputs_name: str = "the inputs"
    targets_name: str = "the targets"


@dataclass(frozen=True)
class Raw:
    """The result of a reader.

    Attributes:
        train: the training examples.
        test: the test examples; None if there are none.
        format: the format in a few words, e.g. "EMNIST, IDX files".
        digests: hexadecimal hashes of the data read, in a fixed order; if empty, the arrays are
            hashed.
        files: the files read.
        left_out: neighbouring files that were not read, "NAME: why" or "12 files: why".
        facts: further facts, by name.
        warnings: what is likely to spoil training, one line each.
        class_names: name of each label; empty if the classes have only numbers.
        num_classes: number of classes, if the format specifies it; None means 1 + the largest
            label.
        full: the value that becomes 1, if the arrays' type does not determine it.
        channels: position of the channels in [N, ., ., .]; None detects it.
        keep_floats: whether floats are used as states unchanged, whatever their range.
    """

    train: Part
    test: Part | None = None
    format: str = ""
    digests: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    num_classes: int | None = None
    full: float | None = None
    channels: Channels | None = None
    keep_floats: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """The training part and, if there is one, the test part."""
        return (self.train,) if self.test is None else (self.train, self.test)

    @property
    def sha256(self) -> str:
        """The hexadecimal hash of all data read."""
        digests = self.digests or tuple(
            digest_of(array) for part in self.parts for array in (part.inputs, part.targets)
        )
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digest_of(array: np.ndarray) -> str:
    """The hexadecimal sha256 of an array's type, shape and elements."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
