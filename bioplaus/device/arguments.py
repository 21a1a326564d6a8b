"""The arguments of kernels, in groups; fields in capitals are compile-time constants."""

from __future__ import annotations

from typing import Any, NamedTuple


class UnitArguments(NamedTuple):
    """rho and the box of some units; see `chain.Units`."""

    KIND: Any
    P: Any
    Q: Any
    BOXED: Any
    low: float
    high: float


class PhaseArguments(NamedTuple):
    """F; see `chain.Chain`. Fields that a mode does not use are never read."""

    base: Any
    origin: Any
    slope: Any
    target: Any
    beta: Any
    size: Any
    rows: int
    n: int
    outputs: int
    curvature: float
    MODE: Any
    CURVED: Any
    COST: Any
    hidden: UnitArguments
    output: UnitArguments


class LimitArguments(NamedTuple):
    """When rows end; see `elementwise.goes_on`. No row ends before `reach` sweeps.

    With a tolerance below zero, `most` sweeps are taken and rows are checked only then.
    """

    most: int
    reach: int
    tolerance: float
    largest: float
    LAST: Any


class EndArguments(NamedTuple):
    """For each row: the sweep after which it ended (0: it goes on), its residual, and ||s||."""

    n_steps: Any
    residual: Any
    length: Any


class ProductArguments(NamedTuple):
    """How products are computed; see `elementwise.product`."""

    WIDEN: Any
    PRECISION: Any
