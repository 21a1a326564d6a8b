"""The state after the last whole step, at hand should the next step fail in its middle.

After each step its snapshot is held: plain values are copied, tensors only referred to, with the
number of times that each was changed in place, which torch counts. When a step fails, the held
state is right if no tensor was changed since: what computes the updates has failed, user's code in
most cases, and no weight has moved. For what fails later, copies are made every now and then,
within a small share of the time.

What changes a tensor past autograd, as a captured CUDA graph, must say so by
`torch.autograd.graph.increment_version`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_COPY_SHARE = 0.002
"""Of the time that copies may take."""
_COPY_BYTES = 256 << 20
_SIMPLE = frozenset({int, float, str, bool, bytes, type(None)})


@dataclass(frozen=True)
class Whole:
    """A state after a step, and the rows that the log had then."""

    step: int
    state: Any = field(repr=False)
    rows: Mapping[str, int]


class Held:
    """Holds the newest whole state of a run that it can."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        """Hold nothing yet."""
        self._clock = clock
        self._newest: Whole | None = None
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._copy: Whole | None = None
        self._copy_due = 0.0

    def hold(self, step: int, state: Any, rows: Mapping[str, int]) -> None:
        """Take the state after a step; its tensors may go on being changed."""
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
        """The newest state that is whole; None if there is none."""
        if [each._version for each in self._tensors] == self._versions:
            return self._newest
        return self._copy


def _plain(value: Any, tensors: list[Tensor], copy: bool = False) -> Any:
    """The same nested containers, new, with the tensors as they are, or copied.

    The former are added to `tensors`.
    """
    # What every step meets most often goes first: this is most of what holding a state costs.
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is dict:
        return {key: _plain(each, tensors, copy) for key, each in value.items()}
    if isinstance(value, Tensor):
        # Tensors of inference mode count no changes.
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
