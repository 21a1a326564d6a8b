"""Convolutions between layers of channels x height x width, with pooling, and their ways back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from bioplaus.errors import InputError
from bioplaus.fields.connections.base import Connection, Shape, Wire, units

POOLINGS = ("none", "average", "max", "softmax")


@dataclass(frozen=True, eq=False)
class Conv(Connection):
    """a = pool(K * r), with kernels K [channels of the target, of the source, kernel, kernel].

    With `feedback` it leads the other way, from a layer above to one below, with kernels of its
    own, K [channels of the source, of the target, kernel, kernel]: a = K^T upsample(r), each unit
    repeated over its window. Kernels of the two directions have one shape; with equal ones and
    average pooling the way back is the transpose times window^2.

    Attributes:
        kernel, stride, padding: of the convolution; padding -1 is half of the kernel.
        pool: `none`, `average`, `max` or `softmax` (sum of the window's currents weighted by their
            softmax) over windows without overlap.
        window: width of a window.
        feedback: whether it leads from above to below.

    Source: Ernoult et al. 2019 (arXiv 1905.13633), appendix; Laborieux et al. 2021
    (arXiv 2006.03824), section 3.3; softmax pooling: Stergiou et al. 2021 (arXiv 2101.00440).
    """

    kernel: int = 3
    stride: int = 1
    padding: int = -1
    pool: str = "none"
    window: int = 2
    feedback: bool = False

    linear: ClassVar[bool]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("kernel", 1), ("stride", 1), ("padding", -1), ("window", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r} of {self.name} must be {least} or more")
        if self.pool not in POOLINGS:
            raise InputError(f"pool={self.pool!r} of {self.name}: use one of {', '.join(POOLINGS)}")
        if self.padding == -1:
            object.__setattr__(self, "padding", self.kernel // 2)
        if self.pool == "none":
            object.__setattr__(self, "window", 1)
        if self.feedback and self.pool in ("max", "softmax"):
            object.__setattr__(self, "pool", "average")  # a way back repeats over the window
        object.__setattr__(self, "linear", self.pool in ("none", "average"))

    def _pooled(self, below: Shape) -> Shape:
        """Height and width above those of a layer below."""
        sides = []
        for side in below[1:]:
            moved = (side + 2 * self.padding - self.kernel) // self.stride + 1
            sides.append(moved // self.window if moved % self.window == 0 else -1)
        return tuple(sides)

    def weight_shape(self, source: Shape, target: Shape) -> Shape:
        above, below = (source, target) if self.feedback else (target, source)
        if len(above) != 3 or len(below) != 3:
            raise InputError(
                f"{self.name} is a convolution between layers of shapes {source} and {target}; "
                "give both as (channels, height, width)"
            )
        rest = [(side + 2 * self.padding - self.kernel) % self.stride for side in below[1:]]
        if self.feedback and any(rest):
            raise InputError(
                f"{self.name} with kernel={self.kernel}, stride={self.stride} and "
                f"padding={self.padding} leaves the edge of {below} out on the way back; use "
                "sizes that its steps divide"
            )
        sides = self._pooled(below)
        if sides != above[1:]:
            got = "no whole windows" if -1 in sides else f"{sides[0]} x {sides[1]}"
            raise InputError(
                f"{self.name} with kernel={self.kernel}, stride={self.stride}, "
                f"padding={self.padding}, window={self.window} gives {got} over {below}, not "
                f"{above[1]} x {above[2]}"
            )
        return above[0], below[0], self.kernel, self.kernel

    def fan_in(self, weight: Shape) -> int:
        channels = weight[0] if self.feedback else weight[1]
        return max(1, channels * self.kernel**2 // self.stride**2)

    def sources(self, weight: Shape) -> tuple[int, ...]:
        return (weight[0], 1, 1, 1) if self.feedback else (1, weight[1], 1, 1)

    def mirrored(self, weight: Tensor) -> Tensor:
        return weight

    def current(self, weight: Tensor, r: Tensor) -> Tensor:
        if self.feedback:
            return self._back(weight, _spread(r, self.window))
        a = F.conv2d(r, weight, stride=self.stride, padding=self.padding)
        if self.pool == "none":
            return a
        if self.pool == "average":
            return _window_sums(a, self.window) / self.window**2
        if self.pool == "max":
            return F.max_pool2d(a, self.window)
        parts = _windows(a, self.window)
        return (torch.softmax(parts, -1) * parts).sum(-1)

    def _back(self, weight: Tensor, v: Tensor) -> Tensor:
        """The transposed convolution, of the size of the layer below."""
        return F.conv_transpose2d(v, weight, stride=self.stride, padding=self.padding)

    def wire(self, weight: Tensor, source: Shape, target: Shape) -> Wire:
        exact = (source if not self.feedback else target)[1:]
        rest = [(side + 2 * self.padding - self.kernel) % self.stride for side in exact]
        if self.mask is not None or any(rest):
            return Wire(self, weight, source, target)
        return (_BackWire if self.feedback else _ConvWire)(self, weight, source, target)


def _spread(v: Tensor, window: int) -> Tensor:
    """Each unit repeated over its window."""
    if window == 1:
        return v
    return v.repeat_interleave(window, -2).repeat_interleave(window, -1)


def _window_sums(a: Tensor, window: int) -> Tensor:
    """The sum over each window, [B, C, H, W] -> [B, C, H / w, W / w]."""
    if window == 1:
        return a
    if a.is_complex():  # which avg_pool2d refuses
        return _windows(a, window).sum(-1)
    return F.avg_pool2d(a, window, divisor_override=1)


def _windows(a: Tensor, window: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H / w, W / w, w^2]."""
    b, c, h, w = a.shape
    parts = a.view(b, c, h // window, window, w // window, window)
    return parts.transpose(3, 4).reshape(b, c, h // window, w // window, window**2)


def _unwindowed(parts: Tensor, window: int) -> Tensor:
    """The inverse of `_windows`."""
    b, c, h, w, _ = parts.shape
    whole = parts.view(b, c, h, w, window, window).transpose(3, 4)
    return whole.reshape(b, c, h * window, w * window)


@dataclass(eq=False)
class _ConvWire(Wire):
    """pool(K * r) with pooling by fixed weights of the units in a window.

    Attributes:
        shares: of each unit before pooling, [B, C, H, W]; None where the pooling is not frozen.
    """

    shares: Tensor | None = None

    @property
    def conv(self) -> Conv:
        assert isinstance(self.connection, Conv)
        return self.connection

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        conv = self.conv
        if self.shares is None:
            return super().add(base, r, out)
        a = F.conv2d(
            r.view(len(r), *self.source), self.weight, stride=conv.stride, padding=conv.padding
        )
        current = _window_sums(a.mul_(self.shares), conv.window)
        current = current.view(len(r), -1)
        if base is not None:
            return torch.add(base, current, out=out)
        return current if out is None else out.copy_(current)

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        conv = self.conv
        spread = self._before_pooling(v)
        back = conv._back(self.weight, spread).view(len(v), -1)
        return out.copy_(back) if base is None else torch.add(base, back, out=out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        wire = self if self.shares is not None else self.at(r)
        assert isinstance(wire, _ConvWire)
        return conv2d_weight(
            r.view(len(r), *self.source),
            self.weight.shape,
            wire._before_pooling(post),
            stride=self.conv.stride,
            padding=self.conv.padding,
        )

    def at(self, r: Tensor) -> Wire:
        conv = self.conv
        if conv.linear or self.shares is not None:
            return self
        a = F.conv2d(
            r.view(len(r), *self.source), self.weight, stride=conv.stride, padding=conv.padding
        )
        parts = _windows(a, conv.window)
        if conv.pool == "max":
            shares = F.one_hot(parts.argmax(-1), conv.window**2).to(parts)
        else:
            weights = torch.softmax(parts, -1)
            shares = weights * (1 + parts - (weights * parts).sum(-1, keepdim=True))
        return replace(self, shares=_unwindowed(shares, conv.window))

    def take(self, rows: Tensor | slice) -> Wire:
        return self if self.shares is None else replace(self, shares=self.shares[rows])

    def _before_pooling(self, v: Tensor) -> Tensor:
        """What flat currents [B, n_target] pull at before the pooling, [B, C, H, W]."""
        conv, spread = self.conv, v.view(len(v), *self.target)
        spread = _spread(spread, conv.window)
        if self.shares is not None:
            return spread * self.shares
        return spread / conv.window**2 if conv.window > 1 else spread


@dataclass(eq=False)
class _BackWire(Wire):
    """K^T upsample(r)."""

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        conv = self._conv
        a = F.conv2d(
            v.view(len(v), *self.target), self.weight, stride=conv.stride, padding=conv.padding
        )
        back = _window_sums(a, conv.window)
        back = back.view(len(v), units(self.source))
        return out.copy_(back) if base is None else torch.add(base, back, out=out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        conv = self._conv
        return conv2d_weight(
            post.view(len(r), *self.target),
            self.weight.shape,
            _spread(r.view(len(r), *self.source), conv.window),
            stride=conv.stride,
            padding=conv.padding,
        )

    @property
    def _conv(self) -> Conv:
        assert isinstance(self.connection, Conv)
        return self.connection
