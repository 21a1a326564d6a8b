"""Training and test examples: inputs, and labels or target vectors."""

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
    """Training and test examples.

    Attributes:
        name: "mnist", "fashion-mnist", a folder's or a file's name, or a name given by the user.
        train: the training examples.
        test: the test examples; empty if there are none.
        shape: shape of one input: (784,), (28, 28), (3, 32, 32); the inputs themselves are flat.
        num_outputs: number of classes, or length of a target vector.
        sha256: hexadecimal hash of all data read, however many examples are used.
        class_names: name of each label; empty if the classes have only numbers.
        facts: facts about the examples.
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
        """Make a data set from arrays: numpy, torch, pandas or lists.

        ```python
        data = Dataset.from_arrays(x_train, y_train, x_test, y_test)
        ```

        Inputs are rows [N, D] or images [N, H, W], [N, C, H, W] or [N, H, W, C]; the last is
        recognised by its 1, 3 or 4 channels. Floats are used unchanged; `facts.warnings` says if
        they are large. Integers are grey levels 0 to 255, which are scaled to floats from 0 to 1.

        Args:
            x_train: training inputs, [N, ...].
            y_train: labels [N], integers from 0 or names of classes; or target vectors [N, m].
            x_test: test inputs, if any.
            y_test: their targets.
            name: name of the data set, for logs.
            channels: "first" or "last" for [N, ., ., .]; detected by default.
            value_range: the values that become 0 and 1.
            num_classes: number of classes; by default 1 + the largest label.
            holdout: fraction of the training set to hold out as a test set, in (0, 1).
            holdout_seed: seed of the draw.
            dtype: dtype of the inputs; by default float64 for float64 arrays, else float32.

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
        """The number of values in an input: the product of `shape`."""
        return math.prod(self.shape)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of an input; None if it is not an image."""
        shape = (1, *self.shape) if len(self.shape) == 2 else self.shape
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None

    @property
    def has_labels(self) -> bool:
        """Whether the targets are class labels rather than vectors."""
        return self.train.targets.ndim == 1

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if the targets are vectors."""
        return self.num_outputs if self.has_labels else None

    @property
    def shown(self) -> Examples:
        """The examples for inspecting a network: test examples, or training examples if none."""
        return self.test if len(self.test) else self.train

    def vectors(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert targets to vectors [N, num_outputs]; labels become one-hot rows."""
        if targets.ndim == 1:
            return one_hot(targets, self.num_outputs, dtype)
        return targets.to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Dataset:
        """The same examples on another device or in another floating-point type."""
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
