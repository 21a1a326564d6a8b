"""The units of one layer of a layered field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bioplaus.activations import Activation, get_activation
from bioplaus.calling import Answered
from bioplaus.errors import InputError
from bioplaus.fields.connections import Shape, units


@dataclass(frozen=True)
class Layer(metaclass=Answered):
    """The units of one layer.

    Attributes:
        shape: number of units, or (channels, height, width).
        activation: rho: a name, an `Activation` or a function of a tensor; `clipped` keeps states
            in the box [0, 1], where rho is the identity.
        box: bounds (lo, hi) of the states, within which rho is the identity; None means no box.
        bias: whether the units (or channels) have a learned bias.
    """

    shape: int | Shape
    activation: str | Activation | Any = "tanh"
    box: tuple[float, float] | None = None
    bias: bool = True
    rho: Activation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        if len(shape) not in (1, 3) or any(
            isinstance(side, bool) or int(side) != side or side < 1 for side in shape
        ):
            raise InputError(
                f"shape={self.shape!r} of a layer must be a number of units, or "
                "(channels, height, width), all at least 1"
            )
        object.__setattr__(self, "shape", tuple(int(side) for side in shape))
        clipped = isinstance(self.activation, str) and self.activation == "clipped"
        if clipped and self.box is None:
            object.__setattr__(self, "box", (0.0, 1.0))
        rho = get_activation("linear" if clipped else self.activation)
        object.__setattr__(self, "rho", rho)
        if self.box is not None:
            low, high = self.box
            if not low < high:
                raise InputError(f"box={self.box} must be (lo, hi) with lo < hi")
            if rho.name != "linear":
                raise InputError(
                    f"a layer with box={self.box} has the identity for rho, not "
                    f'{rho.name!r}; use activation="clipped" or "linear", or no box'
                )

    @property
    def size(self) -> Shape:
        """The shape as a tuple."""
        assert isinstance(self.shape, tuple)
        return self.shape

    def description(self) -> dict[str, Any] | None:
        """Describe the layer in JSON values; None if rho is the user's code."""
        try:
            known = get_activation(self.rho.name) == self.rho
        except InputError:
            known = False
        clipped = self.box is not None and self.activation == "clipped"
        name = "clipped" if clipped else self.rho.name
        box = None if self.box is None else list(self.box)
        settings = {"shape": list(self.size), "activation": name, "box": box, "bias": self.bias}
        return settings if known else None

    def spread(self, bias: Tensor | None) -> Tensor | None:
        """Expand a bias per unit or per channel to each unit, [n]."""
        if bias is None or len(self.size) == 1:
            return bias
        return bias[:, None].expand(self.size[0], self._area).reshape(-1)

    def sum_into(self, bias: Tensor, post: Tensor) -> None:
        """Sum the bias update over the batch and, for channels, also over their units."""
        if len(self.size) == 1:
            torch.sum(post.view(-1, *bias.shape), 0, out=bias)
        else:
            torch.sum(post.reshape(-1, self.size[0], self._area), (0, 2), out=bias)

    @property
    def _area(self) -> int:
        return units(self.size[1:])
