"""Fuse what lies between the products of a recorded loop by torch.compile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bioplaus.nudging.elementwise import Work
from bioplaus.solvers.masked import Limits, Rows, judge


class Fused:
    """Checks of rows and elementwise work, compiled at the first call for each kind of phase.

    A check is about sixty elementwise operations, an activation with its slope up to ten, and the
    pull on the outputs five. As a CUDA graph each of them is a kernel; fused, they are a few.

    Attributes:
        seconds: time spent in calls so far, which is that of compiling.
        left: names of functions that torch.compile cannot trace; they run as they are.
    """

    def __init__(self) -> None:
        """Compile nothing yet."""
        self._judge = torch.compile(judge, dynamic=True, fullgraph=True)
        self._works: dict[Work, Work] = {}
        self._plain: set[Any] = set()
        self.seconds, self.left = 0.0, list[str]()

    def __call__(
        self, s: Tensor, force: Tensor, size: Tensor, scale: Tensor, rows: Rows, limits: Limits
    ) -> None:
        """Check all rows; see `judge`."""
        self._timed(self._judge, s, force, size, scale, rows, limits)

    def compiled(self, work: Work) -> Work:
        """Compile elementwise work; see `bioplaus.nudging.elementwise.compiled_by`."""
        if work not in self._works:
            compiled = torch.compile(work, dynamic=True, fullgraph=True)
            self._works[work] = lambda *args: self._do(work, compiled, *args)
        return self._works[work]

    def _do(self, work: Work, compiled: Work, *args: Any) -> None:
        inside = tuple(getattr(each, "__code__", each) for each in args if callable(each))
        if (work, inside) not in self._plain:
            try:
                self._timed(compiled, *args)
                return
            except Exception as error:
                from torch._dynamo.exc import TorchDynamoException  # slow to import

                if not isinstance(error, TorchDynamoException):
                    raise
                # tracing failed, so nothing has been written
                self._plain.add((work, inside))
                self.left += [getattr(each, "__qualname__", "?") for each in args if callable(each)]
        work(*args)

    def _timed(self, function: Callable[..., Any], *args: Any) -> None:
        began = time.perf_counter()
        function(*args)
        self.seconds += time.perf_counter() - began
