"""Fuse the check of rows in a recorded loop by torch.compile."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from bioplaus.solvers.masked import Limits, Rows, judge


class Fused:
    """`judge`, compiled at its first call for each kind of phase.

    Between the products of two sweeps, a check is about sixty elementwise operations. As a CUDA
    graph each of them is a kernel; fused, they are a few.

    Attributes:
        seconds: time spent in calls so far, which is that of compiling.
    """

    def __init__(self) -> None:
        """Compile nothing yet."""
        self._judge = torch.compile(judge, dynamic=True, fullgraph=True)
        self.seconds = 0.0

    def __call__(
        self, s: Tensor, force: Tensor, size: Tensor, scale: Tensor, rows: Rows, limits: Limits
    ) -> None:
        """Check all rows; see `judge`."""
        began = time.perf_counter()
        self._judge(s, force, size, scale, rows, limits)
        self.seconds += time.perf_counter() - began
