"""Axes: the range of numbers shown, the positions of the ticks, and their texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bridge.report.style import plain

_TICKS = 5
# Limits whose difference and margins are still finite numbers.
_FAR, _NEAR = 4e307, 1e-300


@dataclass(frozen=True)
class Scale:
    """Maps low..high to 0..1, linearly or logarithmically.

    Args:
        low, high: limits, low < high; > 0 if logarithmic.
        logarithmic: whether the map is logarithmic.
        ticks: positions of the ticks.
        texts: their labels.
    """

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[float, ...]
    texts: tuple[str, ...]

    def __call__(self, values: ArrayLike) -> NDArray[Any]:
        """Give the positions of values, NaN for those that have none."""
        given = np.asarray(values, float)
        given = np.where(np.isfinite(given), given.clip(-_FAR, _FAR), np.nan)
        ends = np.array([self.low, self.high])
        if self.logarithmic:
            given = np.log10(np.where(given > 0, given, np.nan))
            ends = np.log10(ends)
        return (given - ends[0]) / (ends[1] - ends[0])


def scale(values: ArrayLike, logarithmic: bool = False, margin: float = 0.04) -> Scale:
    """Make an axis that shows all finite values; if logarithmic, all positive ones.

    Args:
        values: any numbers, possibly none.
        logarithmic: whether the axis is logarithmic.
        margin: space at each end, as a fraction of the range.
    """
    finite = np.asarray(values, float).ravel()
    finite = finite[np.isfinite(finite)]
    if logarithmic:
        finite = finite[finite > 0]
    if not len(finite):
        return Scale(0.0, 1.0, False, (0.0, 1.0), ("0", "1"))
    low, high = float(finite.min()), float(finite.max())
    return _logarithmic(low, high) if logarithmic else _linear(low, high, margin)


def _linear(low: float, high: float, margin: float) -> Scale:
    low, high = max(low, -_FAR), min(high, _FAR)
    low, high = min(low, _FAR), max(high, -_FAR)
    if high - low <= max(1e-12 * max(abs(low), abs(high)), _NEAR):
        room = abs(low) / 2 if abs(low) > _NEAR else 1.0
        low, high = low - room, high + room
    room = margin * (high - low)
    low, high = low - room, high + room
    step = _nice((high - low) / _TICKS)
    first, last = math.ceil(low / step), math.floor(high / step)
    ticks = tuple(n * step for n in range(first, last + 1))
    return Scale(low, high, False, ticks, tuple(_text(tick, step) for tick in ticks))


def _logarithmic(low: float, high: float) -> Scale:
    bottom, top = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    # Powers within the range of doubles, and a non-empty interval.
    bottom, top = max(min(bottom, 307), -323), max(min(top, 308), -322)
    if bottom == top:
        top += 1
    every = max(1, math.ceil((top - bottom) / (_TICKS + 1)))
    powers = range(bottom, top + 1, every)
    ticks = tuple(10.0**power for power in powers)
    return Scale(10.0**bottom, 10.0**top, True, ticks, tuple(map(plain, ticks)))


def _nice(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= step * (1 - 1e-9))


def _text(tick: float, step: float) -> str:
    largest = max(abs(tick), step)
    if largest >= 1e6 or step < 1e-4:
        return f"{tick:.3g}" if tick else "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:,.{digits}f}" if tick else "0"
