"""Scale stored values to states between 0 and 1, by a given range or one found from the values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bioplaus.errors import InputError

FAR_BELOW = 0.5
"""Values that stay within this fraction of their type's range are scaled by their maximum."""

RARE = 1e-3
"""If fewer of the values above zero exceed that fraction, the others are said to be dark."""

LARGE = 20.0
"""Floats beyond this are said to be large where floats are used unchanged."""


@dataclass(frozen=True)
class Scale:
    """How the values of one file become states: (v - low) / (high - low).

    Attributes:
        low, high: the values that become 0 and 1.
        lowest, highest: the smallest and largest value in the file.
    """

    low: float
    high: float
    lowest: float
    highest: float

    def states(self, images: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Flatten images and scale them to [0, 1], [N, pixels]."""
        flat = images.reshape(len(images), -1)
        if flat.dtype in (np.uint16, np.uint32, np.uint64):  # torch barely supports these
            flat = flat.astype(np.float64)
        values = torch.from_numpy(np.array(flat)).to(dtype)  # a private copy
        if self.low:
            values = values.sub_(self.low)
        span = self.high - self.low
        return values if span == 1 else values.div_(span)


@dataclass(frozen=True)
class Ranges:
    """How a data set's range is chosen, and how messages describe it.

    Attributes:
        given: the values that become 0 and 1; None determines them from the type of the values.
        full: the value that becomes 1, if the file format and not the array's type determines it.
        keep_floats: whether floats are used as states unchanged.
        option: how a user gives a range, with {} for its two ends.
    """

    given: tuple[float, float] | None = None
    full: float | None = None
    keep_floats: bool = False
    option: str = "--set data.range=[{}, {}]"

    def say(self, low: float, high: float) -> str:
        """Format the option that gives a range."""
        return self.option.format(f"{low:g}", f"{high:g}")

    def of(self, array: np.ndarray) -> tuple[float, float]:
        """The values that become 0 and 1."""
        if self.given is not None:
            return self.given
        if not np.issubdtype(array.dtype, np.integer):
            return 0.0, 1.0
        return 0.0, self.full or 255.0

    @property
    def legal(self) -> str:
        """Describe the legal values if no range is given."""
        floats = "any floats" if self.keep_floats else "floats 0 to 1"
        return f"integers 0 to {self.full or 255:g} or {floats}"


def scales(
    names: Sequence[str], arrays: Sequence[np.ndarray], ranges: Ranges
) -> tuple[list[Scale], list[str]]:
    """Find the scales of files that belong together.

    Integers are grey levels 0 to 255, and floats lie in [0, 1]. If no file exceeds half of that
    range, as with grey levels 0 to 16, their largest value replaces 255 or 1.

    Args:
        names: names of the files, for messages.
        arrays: all their images.
        ranges: how the range is chosen.

    Returns:
        One scale per file, and notes for the user, one line each.

    Raises:
        InputError: values are outside the range, or all are equal.
    """
    ends = [(float(a.min()), float(a.max())) for a in arrays]
    if min(low for low, _ in ends) == max(high for _, high in ends):
        raise InputError(
            f"{names[0]}: every pixel of every image is {ends[0][0]:g}; there is nothing to learn, "
            "give others"
        )
    given = ranges.given
    if given is not None and not (given[0] < given[1] and np.isfinite(given).all()):
        raise InputError(f"range={list(given)} is empty; give [low, high] with low < high")
    floats = [not np.issubdtype(array.dtype, np.integer) for array in arrays]
    if given is None and ranges.keep_floats and all(floats):
        _require_finite(names, arrays, ranges)
        return [Scale(0.0, 1.0, *end) for end in ends], _large(ends, ranges)
    fulls = [ranges.of(array) for array in arrays]
    for name, array, (low, high), full in zip(names, arrays, ends, fulls, strict=True):
        if not (full[0] <= low and high <= full[1]):  # also true for NaN
            _require_finite([name], [array], ranges)
            raise InputError(_outside(name, array, low, high, ranges))
    notes: list[str] = []
    shares = [high / (full[1] or 1.0) for (_, high), full in zip(ends, fulls, strict=True)]
    most = max(shares)
    if given is None and most <= FAR_BELOW:
        was = fulls[0][1]
        fulls = [(0.0, most * full[1]) for full in fulls]
        now = fulls[0][1]
        notes.append(
            f"values end at {now:g}: divided by {now:g}, not by {was:g}; if they are dark on "
            f"purpose, {ranges.say(0, was)}"
        )
    elif given is None and min(shares) <= FAR_BELOW:
        maxima = " and ".join(
            f"{os.path.basename(n)} ends at {h:g}" for n, (_, h) in zip(names, ends, strict=True)
        )
        notes.append(f"{maxima}: one of the two seems to be scaled otherwise")
    elif given is None:
        notes += _dark(arrays, [full for _, full in fulls], ranges)
    return [Scale(*full, *end) for full, end in zip(fulls, ends, strict=True)], notes


def _large(ends: Sequence[tuple[float, float]], ranges: Ranges) -> list[str]:
    """What to say of floats that are used unchanged and are far larger than states."""
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if max(-low, high) <= LARGE:
        return []
    scaled = ranges.say(_round_down(low), _round_up(high))
    return [f"floats from {low:g} to {high:g} are used unchanged; {scaled} scales them to 0..1"]


def _dark(arrays: Sequence[np.ndarray], fulls: Sequence[float], ranges: Ranges) -> list[str]:
    """What to say if hardly any value above zero exceeds the fraction FAR_BELOW of its range."""
    bright, above, rest = 0, 0, 0.0
    for array, full in zip(arrays, fulls, strict=True):
        over = array > FAR_BELOW * full
        bright, above = bright + int(over.sum()), above + int(np.count_nonzero(array))
        rest = max(rest, float(array.max(where=~over, initial=0)))
    if not 0 < bright < RARE * above:
        return []
    return [
        f"all but {bright:,} of {above:,} values above zero end at {rest:g}, and {fulls[0]:g} "
        f"becomes 1: if the rest is noise, cut it off at {rest:g} and give {ranges.say(0, rest)}"
    ]


def _require_finite(names: Sequence[str], arrays: Sequence[np.ndarray], ranges: Ranges) -> None:
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
        if bad.any():
            raise InputError(
                f"{name} is NaN or infinite in row {int(bad.argmax())}, and in {int(bad.sum())} "
                f"rows in all: legal are {ranges.legal}; leave them out, or replace what is not "
                "finite"
            )


def _outside(name: str, array: np.ndarray, low: float, high: float, ranges: Ranges) -> str:
    holds = f"{name} holds values from {low:g} to {high:g} as {array.dtype.name}"
    if ranges.given is not None:
        return f"{holds}, outside of range={list(ranges.given)}; give {ranges.say(low, high)}"
    return (
        f"{holds}: legal are {ranges.legal}; say what becomes 0 and 1, e.g. "
        f"{ranges.say(_round_down(low), _round_up(high))}"
    )


def _round_up(high: float) -> float:
    """The largest number with as many bits, such as 1023 for 900; at most 1 gives 1."""
    return 2.0 ** int(np.ceil(np.log2(high + 1))) - 1 if high > 1 else 1.0


def _round_down(low: float) -> float:
    return -(2.0 ** int(np.ceil(np.log2(-low)))) if low < 0 else 0.0
