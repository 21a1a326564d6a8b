"""Convolutions between layers of channels x height x width, with pooling and feedback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from bioplaus.errors import InputError
from bioplaus.fields.connections.base import Connection, Shape, Wire

POOLINGS = ("none", "average", "max", "softmax")


@dataclass(frozen=True, eq=False, repr=False)
class Conv(Connection):
    """a = pool(K * r), with kernels K [channels of the target, of the source, kernel, kernel].

    With `feedback` it runs in the opposite direction, from a layer above to one below, with its own
    kernels K [channels of the source, of the target, kernel, kernel]: a = K^T upsample(r), where
    each unit is repeated over its window. Kernels of the two directions have the same shape. If
    they are equal and pooling is average, feedback is the transpose times window^2.

    Attributes:
        kernel, stride, padding: size of the kernel, stride and padding of the convolution;
            padding -1 means half of the kernel.
        pool: `none`, `average`, `max` or `softmax` (sum of the window's currents weighted by their
            softmax) over non-overlapping windows.
        window: width of a window.
        feedback: whether it runs from above to below.

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
            if self.window not in (1, 2):  # 2 is the default, and 1 what follows from it
                raise InputError(
                    f"window={self.window} of {self.name} has no effect with pool='none'; give "
                    "pool='average', or leave it out"
                )
            object.__setattr__(self, "window", 1)
        if self.feedback and self.pool in ("max", "softmax"):
            object.__setattr__(self, "pool", "average")  # feedback repeats over the window
        object.__setattr__(self, "linear", self.pool in ("none", "average"))

    def _pooled(self, below: Shape) -> Shape:
        """Height and width of the layer above, given the layer below."""
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
            spread = _spread(r, self.window)
            return F.conv_transpose2d(spread, weight, stride=self.stride, padding=self.padding)
        a = F.conv2d(r, weight, stride=self.stride, padding=self.padding)
        if self.pool == "none":
            return a
        if self.pool == "average":
            return _window_sums(a, self.window) / self.window**2
        if self.pool == "max":
            return F.max_pool2d(a, self.window)
        parts = _windows(a, self.window)
        return (torch.softmax(parts, -1) * parts).sum(-1)

    def wire(self, weight: Tensor, source: Shape, target: Shape) -> Wire:
        below = (target if self.feedback else source)[1:]
        if any((side + 2 * self.padding - self.kernel) % self.stride for side in below):
            return Wire(self, weight, source, target)
        kinds = (_BackWire if self.feedback else _ConvWire, _PoolWire)
        return kinds[not self.linear](self, weight, source, target)


def _spread(v: Tensor, window: int) -> Tensor:
    """Repeat each unit over its window."""
    if window == 1:
        return v
    return v.repeat_interleave(window, -2).repeat_interleave(window, -1)


def _window_sums(a: Tensor, window: int) -> Tensor:
    """The sum over each window, [B, C, H, W] -> [B, C, H / w, W / w]."""
    if a.is_complex():  # avg_pool2d does not support it
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
    """Convolution and average pooling as one convolution with a wider kernel and a larger stride.

    mean_ij sum_ab K_ab r_{s (w m + i) + a} = sum_c K'_c r_{s w m + c}, where K' is the mean of the
    kernel K shifted by s i, 0 <= i < w. This takes a third of the products, and no pooling.

    Attributes:
        held: K' if the weight is known not to change, as during a phase.
    """

    held: Tensor | None = None

    @property
    def conv(self) -> Conv:
        assert isinstance(self.connection, Conv)
        return self.connection

    @property
    def wide(self) -> Tensor:
        """K', [channels above, channels below, k + (w - 1) s, the same]."""
        if self.held is not None:
            return self.held
        conv, kernel = self.conv, self.conv.effective(self.weight)
        if conv.window == 1:
            return kernel
        moves = [(i * conv.stride, (conv.window - 1 - i) * conv.stride) for i in range(conv.window)]
        moved = [F.pad(kernel, (*across, *down)) for down in moves for across in moves]
        total = torch.stack(moved).sum(0)
        return total if conv.feedback else total / conv.window**2

    def up(self, r: Tensor, shape: Shape) -> Tensor:
        """K' * r for flat activities below, flat."""
        conv = self.conv
        step = conv.stride * conv.window
        a = F.conv2d(r.view(len(r), *shape), self.wide, stride=step, padding=conv.padding)
        return a.reshape(len(r), -1)

    def down(self, v: Tensor, shape: Shape) -> Tensor:
        """The transpose of `up`."""
        conv = self.conv
        step = conv.stride * conv.window
        spread = v.view(len(v), *shape)
        back = F.conv_transpose2d(spread, self.wide, stride=step, padding=conv.padding)
        return back.reshape(len(v), -1)

    def pull(self, below: Tensor, above: Tensor) -> Tensor:
        """The derivative of above . (K' * below) by K; both are [B, channels, height, width]."""
        conv = self.conv
        step, k = conv.stride * conv.window, conv.kernel
        wide = k + (conv.window - 1) * conv.stride
        shape = (*self.weight.shape[:2], wide, wide)
        slope = conv2d_weight(below, shape, above, stride=step, padding=conv.padding)
        if conv.window > 1:
            moves = [i * conv.stride for i in range(conv.window)]
            parts = [slope[..., i : i + k, j : j + k] for i in moves for j in moves]
            slope = torch.stack(parts).sum(0)
            slope = slope if conv.feedback else slope / conv.window**2
        return slope if conv.mask is None else slope * conv.mask.to(slope)

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        return _added(base, self.up(r, self.source), out)

    def back(self, v: Tensor) -> Tensor:
        return self.down(v, self.target)

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        return _added(base, self.back(v), out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return self.pull(r.view(len(r), *self.source), post.view(len(r), *self.target))

    def at(self, r: Tensor) -> Wire:
        return replace(self, held=self.wide)


@dataclass(eq=False)
class _BackWire(_ConvWire):
    """K^T upsample(r), the transpose of the same convolution without the mean."""

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        return _added(base, self.down(r, self.source), out)

    def back(self, v: Tensor) -> Tensor:
        return self.up(v, self.target)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return self.pull(post.view(len(r), *self.target), r.view(len(r), *self.source))


@dataclass(eq=False)
class _PoolWire(Wire):
    """Pooling that depends on the currents; frozen at a state, it has fixed shares.

    Attributes:
        shares: share of each unit before pooling, [B, C, H, W]; None if it is not frozen.
        kernel: the weight with its mask applied, if the pooling is frozen.
    """

    shares: Tensor | None = None
    kernel: Tensor | None = None

    @property
    def conv(self) -> Conv:
        assert isinstance(self.connection, Conv)
        return self.connection

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        if self.shares is None:
            return super().add(base, r, out)
        a = self._convolved(r).mul_(self.shares)
        return _added(base, _window_sums(a, self.conv.window).reshape(len(r), -1), out)

    def back(self, v: Tensor) -> Tensor:
        conv, pulled = self.conv, self._before_pooling(v)
        kernel = conv.effective(self.weight) if self.kernel is None else self.kernel
        below = F.conv_transpose2d(pulled, kernel, stride=conv.stride, padding=conv.padding)
        return below.reshape(len(v), -1)

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        return _added(base, self.back(v), out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        wire, conv = self.at(r), self.conv
        slope = conv2d_weight(
            r.view(len(r), *self.source),
            self.weight.shape,
            wire._before_pooling(post),
            stride=conv.stride,
            padding=conv.padding,
        )
        return slope if conv.mask is None else slope * conv.mask.to(slope)

    def at(self, r: Tensor) -> _PoolWire:
        if self.shares is not None:
            return self
        conv = self.conv
        parts = _windows(self._convolved(r), conv.window)
        if conv.pool == "max":
            shares = F.one_hot(parts.argmax(-1), conv.window**2).to(parts)
        else:
            weights = torch.softmax(parts, -1)
            shares = weights * (1 + parts - (weights * parts).sum(-1, keepdim=True))
        kernel = conv.effective(self.weight)
        return replace(self, shares=_unwindowed(shares, conv.window), kernel=kernel)

    def take(self, rows: Tensor | slice) -> Wire:
        return self if self.shares is None else replace(self, shares=self.shares[rows])

    def _convolved(self, r: Tensor) -> Tensor:
        conv = self.conv
        kernel = conv.effective(self.weight) if self.kernel is None else self.kernel
        r = r.view(len(r), *self.source)
        return F.conv2d(r, kernel, stride=conv.stride, padding=conv.padding)

    def _before_pooling(self, v: Tensor) -> Tensor:
        """Backpropagate flat currents [B, n_target] through the pooling, [B, C, H, W]."""
        assert self.shares is not None
        return _spread(v.view(len(v), *self.target), self.conv.window) * self.shares


def _added(base: Tensor | None, current: Tensor, out: Tensor | None) -> Tensor:
    """base + current, written to `out` if there is one."""
    if base is not None:
        return torch.add(base, current, out=out)
    return current if out is None else out.copy_(current)
