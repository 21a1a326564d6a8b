"""Augment images anew in every epoch: mirror, shift, and cut out a square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.calling import Answered
from bioplaus.errors import InputError


@dataclass(frozen=True)
class Augment(metaclass=Answered):
    """How images are augmented before an update.

    Attributes:
        mirror: whether to mirror a random half of the images left to right.
        shift: largest shift in pixels. Each image is padded with zeros and cropped at random, which
            moves it vertically and horizontally.
        cutout: side of a square of zeros, centred anywhere in the image; 0 means none.

    Source: cutout: DeVries and Taylor 2017 (arXiv 1708.04552).
    """

    mirror: bool = False
    shift: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"augment: {name}={value!r} must be a whole number >= 0")

    @property
    def acts(self) -> bool:
        """Whether any augmentation is active."""
        return self.mirror or bool(self.shift) or bool(self.cutout)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch of images.

        The few random numbers per image are drawn on the generator's device, so that the images are
        the same on every device.

        Args:
            x: [B, C, H, W].
            generator: random generator on the CPU.

        Returns:
            [B, C, H, W], with the dtype and device of x.
        """
        b, _, h, w = x.shape
        if self.mirror or self.shift:
            rows, columns = (
                _window(b, h, self.shift, generator),
                _window(b, w, self.shift, generator),
            )
            if self.mirror:
                coin = torch.rand(b, generator=generator) < 0.5
                columns = torch.where(coin[:, None], columns.flip(1), columns)
            x = _picked(x, rows.to(x.device), columns.to(x.device), self.shift)
        if self.cutout:
            inside = _square(b, h, self.cutout, generator)[:, :, None]
            inside = inside & _square(b, w, self.cutout, generator)[:, None, :]
            x = x.masked_fill(inside[:, None].to(x.device), 0.0)
        return x


def mirrored(x: Tensor) -> Tensor:
    """Mirror left and right, [..., H, W]."""
    return x.flip(-1)


def _window(b: int, side: int, shift: int, generator: torch.Generator) -> Tensor:
    """The index of each line of a shifted image in the padded one, [B, side]."""
    start = torch.randint(0, 2 * shift + 1, (b, 1), generator=generator)
    return start + torch.arange(side)


def _picked(x: Tensor, rows: Tensor, columns: Tensor, border: int) -> Tensor:
    padded = torch.nn.functional.pad(x, (border,) * 4)
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1).contiguous()


def _square(b: int, side: int, width: int, generator: torch.Generator) -> Tensor:
    """Whether the square covers each line, [B, side]."""
    low = torch.randint(0, side, (b, 1), generator=generator) - width // 2
    at = torch.arange(side)
    return (at >= low) & (at < low + width)
