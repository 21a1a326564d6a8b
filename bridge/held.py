"""The state after the last complete step, kept in case the next step fails halfway.

A snapshot is held after each step. Plain values are copied. Tensors are only referenced, together
with torch's count of in-place changes. When a step fails, the held state is valid if no tensor has
changed since. This holds if the computation of the updates failed, usually in user code, before any
weight moved. For later failures, copies are made now and then, within a small share of the run
time.

Code that changes a tensor outside autograd, such as a captured CUDA graph, must report the change
with `torch.autograd.graph.increment_version`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_COPY_SHARE = 0.002
"""Share of the run time that copies may take."""
_COPY_BYTES = 256 << 20
_SIMPLE = frozenset({int, float, str, bool, bytes, type(None)})


@dataclass(frozen=True)
class Whole:
    """The state after a step, and the number of rows that the log had then."""

    step: int
    state: Any = field(repr=False)
    rows: Mapping[str, int]


class Held:
    """Holds the newest valid state of a run that is available."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        """Start without a state."""
        self._clock = clock
        self._newest: Whole | None = None
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._copy: Whole | None = None
        self._copy_due = 0.0

    def hold(self, step: int, state: Any, rows: Mapping[str, int]) -> None:
        """Hold the state after a step; its tensors may change later."""
        tensors: list[Tensor] = []
        self._newest = Whole(step, _plain(state, tensors), dict(rows))
        self._tensors = tensors
        self._versions = [each._version for each in tensors]
        began = self._clock()
        if began < self._copy_due:
            return
        if sum(each.nbytes for each in tensors) > _COPY_BYTES:
            self._copy_due = float("inf")
            return
        self._copy = Whole(step, _plain(state, [], copy=True), dict(rows))
        ended = self._clock()
        self._copy_due = ended + (ended - began) / _COPY_SHARE

    def newest(self) -> Whole | None:
        """The newest valid state; None if there is none."""
        if [each._version for each in self._tensors] == self._versions:
            return self._newest
        return self._copy


def _plain(value: Any, tensors: list[Tensor], copy: bool = False) -> Any:
    """Rebuild nested containers, with the tensors referenced or copied.

    Referenced tensors are appended to `tensors`.
    """
    # The most frequent types come first: this function is most of the cost of holding a state.
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is dict:
        return {key: _plain(each, tensors, copy) for key, each in value.items()}
    if isinstance(value, Tensor):
        # Tensors created in inference mode do not count changes.
        if copy or value.is_inference():
            return value.detach().clone()
        tensors.append(value)
        return value
    if isinstance(value, Mapping):
        return {key: _plain(each, tensors, copy) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, tensors, copy) for each in value]
    if isinstance(value, tuple):
        return tuple(_plain(each, tensors, copy) for each in value)
    return value
