"""What a reader hands on: arrays as they are stored, and what is to be told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Channels = Literal["first", "last"]


@dataclass(frozen=True)
class Part:
    """The examples to learn, or those to be tested on, as they are stored.

    Attributes:
        inputs: [N, ...].
        targets: labels [N], or target vectors [N, m].
        inputs_name: what messages call the inputs: a file, or an argument.
        targets_name: likewise.
    """

    inputs: np.ndarray
    targets: np.ndarray
    inputs_name: str = "the inputs"
    targets_name: str = "the targets"


@dataclass(frozen=True)
class Raw:
    """What a reader has read.

    Attributes:
        train: the examples to learn.
        test: those to be tested on; None where there are none.
        format: in a few words, e.g. "EMNIST, IDX files".
        digests: of what was read, hexadecimal, in a fixed order; of the arrays if empty.
        files: that were read.
        left_out: what lies beside them and was not read, "NAME: why" or "12 files: why".
        told: more facts, by name.
        warnings: what is likely to spoil a training, a line each.
        class_names: of each label; none where the classes have only numbers.
        num_classes: where the format says it; 1 + the largest label if None.
        full: the value that becomes 1, where the arrays' type does not say it.
        channels: where the channels of [N, ., ., .] stand; to be recognised if None.
        keep_floats: floats are states as they are, in whatever range.
    """

    train: Part
    test: Part | None = None
    format: str = ""
    digests: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    num_classes: int | None = None
    full: float | None = None
    channels: Channels | None = None
    keep_floats: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """The one or two parts."""
        return (self.train,) if self.test is None else (self.train, self.test)

    @property
    def sha256(self) -> str:
        """Of everything that was read, hexadecimal."""
        digests = self.digests or tuple(
            digest_of(array) for part in self.parts for array in (part.inputs, part.targets)
        )
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digest_of(array: np.ndarray) -> str:
    """Sha256 of an array's type, shape and elements, hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
