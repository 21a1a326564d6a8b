"""From stored values to states between 0 and 1: by a given range, or by what the values say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bioplaus.errors import InputError

FAR_BELOW = 0.5
"""Values that end at or below this share of their type's range are scaled by their own highest."""


@dataclass(frozen=True)
class Scale:
    """How the values of one file become states: (v - low) / (high - low).

    Attributes:
        low, high: what becomes 0 and 1.
        lowest, highest: the values that the file holds.
    """

    low: float
    high: float
    lowest: float
    highest: float

    def states(self, images: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Flatten images and scale them to [0, 1], [N, pixels]."""
        values = torch.from_numpy(images.reshape(len(images), -1)).to(dtype)
        if self.low:
            values = values.sub_(self.low)
        span = self.high - self.low
        return values if span == 1 else values.div_(span)


def scales(
    paths: Sequence[Path], arrays: Sequence[np.ndarray], given: tuple[float, float] | None
) -> tuple[list[Scale], list[str]]:
    """Find how the values of files that belong together are scaled.

    Integers are grey levels 0 to 255, floats lie in [0, 1]. Where all files end at half of that or
    below, e.g. grey levels 0 to 16, their own highest value takes the place of 255 or 1.

    Args:
        paths: of the files, for messages.
        arrays: their images, whole.
        given: what becomes 0 and 1, instead.

    Returns:
        A scale a file, and what the user should know, a line each.

    Raises:
        InputError: values outside the range, or all of them equal.
    """
    ends = [(float(a.min()), float(a.max())) for a in arrays]
    if min(low for low, _ in ends) == max(high for _, high in ends):
        raise InputError(
            f"{paths[0].parent}: every pixel of every image is {ends[0][0]:g}; there is nothing "
            "to learn, give other files"
        )
    if given is not None and not given[0] < given[1]:
        raise InputError(f"range={list(given)} is empty; give [low, high] with low < high")
    fulls = [given or (0.0, _full(array)) for array in arrays]
    for path, array, (low, high), full in zip(paths, arrays, ends, fulls, strict=True):
        if not (full[0] <= low and high <= full[1]):  # NaN is outside too
            raise InputError(_outside(path, array, low, high, given))
    notes: list[str] = []
    shares = [high / full[1] for (_, high), full in zip(ends, fulls, strict=True)]
    most = max(shares)
    if given is None and most <= FAR_BELOW:
        fulls = [(0.0, most * full[1]) for full in fulls]
        was, now = _full(arrays[0]), fulls[0][1]
        notes.append(
            f"values end at {now:g}: divided by {now:g}, not by {was:g}; if they are dark on "
            f"purpose, --set data.range=[0, {was:g}]"
        )
    elif given is None and min(shares) <= FAR_BELOW:
        told = " and ".join(
            f"{p.name} ends at {h:g}" for p, (_, h) in zip(paths, ends, strict=True)
        )
        notes.append(f"{told}: one of the two seems to be scaled otherwise")
    found = [Scale(*full, *end) for full, end in zip(fulls, ends, strict=True)]
    return found, notes


def _full(array: np.ndarray) -> float:
    return 255.0 if np.issubdtype(array.dtype, np.integer) else 1.0


def _outside(
    path: Path, array: np.ndarray, low: float, high: float, given: tuple[float, float] | None
) -> str:
    holds = f"{path} holds values from {low:g} to {high:g} as {array.dtype.name}"
    if not np.isfinite([low, high]).all():
        return f"{holds}: legal are integers 0 to 255 or floats 0 to 1; replace what is not finite"
    if given is not None:
        return f"{holds}, outside of range={list(given)}; give --set data.range=[{low:g}, {high:g}]"
    return (
        f"{holds}: legal are integers 0 to 255 or floats 0 to 1; say what becomes 0 and 1, e.g. "
        f"--set data.range=[{_round_down(low):g}, {_round_up(high):g}]"
    )


def _round_up(high: float) -> float:
    """The largest number of as many bits, as 1023 for 900; 1 below that."""
    return 2.0 ** int(np.ceil(np.log2(high + 1))) - 1 if high > 1 else 1.0


def _round_down(low: float) -> float:
    return -(2.0 ** int(np.ceil(np.log2(-low)))) if low < 0 else 0.0
