"""What kernels are given, in groups; fields named in capitals are known when they are compiled."""

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
    """F; see `chain.Chain`. What a mode lacks is not read, whatever stands there."""

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

    A tolerance below zero takes `most` sweeps, and looks then.
    """

    most: int
    reach: int
    tolerance: float
    largest: float
    LAST: Any


class EndArguments(NamedTuple):
    """Of each row: the sweeps after which it ended (0: it goes on), its residual, ||s||."""

    n_steps: Any
    residual: Any
    length: Any


class ProductArguments(NamedTuple):
    """How products are taken; see `elementwise.product`."""

    WIDEN: Any
    PRECISION: Any
