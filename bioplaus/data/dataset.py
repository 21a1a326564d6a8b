"""Examples to learn and to be tested on: inputs, and labels or target vectors."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bioplaus.calling import Answered, answered
from bioplaus.costs import one_hot
from bioplaus.data.arrays import raw_arrays
from bioplaus.data.assembling import Wishes, assemble
from bioplaus.data.examples import Examples
from bioplaus.data.facts import Facts
from bioplaus.data.raw import Channels


@dataclass(frozen=True, eq=False)
class Dataset(metaclass=Answered):
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

    @classmethod
    @answered
    def from_arrays(
        cls,
        x_train: object,
        y_train: object,
        x_test: object = None,
        y_test: object = None,
        *,
        name: str = "arrays",
        channels: Channels | None = None,
        value_range: tuple[float, float] | None = None,
        num_classes: int | None = None,
        holdout: float | None = None,
        holdout_seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> Dataset:
        """Make a data set of arrays: numpy, torch, pandas or lists.

        ```python
        data = Dataset.from_arrays(x_train, y_train, x_test, y_test)
        ```

        Inputs are rows [N, D] or images [N, H, W], [N, C, H, W] or [N, H, W, C]; the last is
        recognised by its 1, 3 or 4 channels. Floats are taken as they are. Integers are grey levels
        0 to 255, of which floats 0 to 1 are made.

        Args:
            x_train: inputs to learn, [N, ...].
            y_train: labels [N], integers from 0 or names of classes; or target vectors [N, m].
            x_test: inputs to be tested on, if any.
            y_test: their targets.
            name: of the data set, for logs.
            channels: "first" or "last" of [N, ., ., .], where that is not to be recognised.
            value_range: the values that become 0 and 1.
            num_classes: 1 + the largest label if not given.
            holdout: share of the training set that is held out as a test set, in (0, 1).
            holdout_seed: of the draw.
            dtype: of the inputs; float64 for float64, else float32, if not given.

        Raises:
            InputError: names the argument that has a wrong type, shape, length or value.
        """
        wishes = Wishes(
            value_range=value_range,
            channels=channels,
            holdout=holdout,
            holdout_seed=holdout_seed,
            num_classes=num_classes,
            range_option="value_range=({}, {})",
            needs_test=False,
        )
        return assemble(cls, raw_arrays(x_train, y_train, x_test, y_test), name, dtype, wishes)

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
