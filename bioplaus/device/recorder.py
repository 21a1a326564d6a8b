"""Record a GPU's work to replay it without Python: CUDA graphs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

Replay = Callable[[], None]


class AbstractRecorder(Protocol):
    """Records work on the device without doing it.

    Attributes:
        branches: whether the device itself can skip and repeat recorded work, so that `only_if`
            and `repeat` can be called while recording.
        longest: the largest number of repetitions that `repeat` records.
    """

    branches: bool
    longest: float

    def begin(self) -> None:
        """Start recording."""
        ...

    def end(self) -> Replay:
        """Stop recording, and return a function that does the recorded work.

        Raises:
            RuntimeError: some operation waits for the device and cannot be recorded.
        """
        ...

    def abandon(self) -> None:
        """Stop recording after an error and discard what was recorded."""
        ...

    def only_if(self, flag: Tensor) -> AbstractContextManager[None]:
        """Record the work of a block, which is done only if `flag` (bool, []) is true then."""
        ...

    def repeat(self, work: Callable[[], object], going: Callable[[], Tensor], most: int) -> None:
        """Record work that the device repeats while `going()` (bool, []), at most `most` times."""
        ...

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        """Queue a transfer of numbers from the device; the returned function waits for them."""
        ...


def in_blocks(
    only_if: Callable[[Tensor], AbstractContextManager[None]],
    work: Callable[[], object],
    going: Callable[[], Tensor],
    most: int,
) -> None:
    """Record a bounded loop as blocks that are skipped once it has ended.

    The blocks repeat the work 1, 1, 2, 4, ... times, so that `most` repetitions need few of them.
    Repetitions after the end, at most as many as before it, must change nothing.
    """
    done = 0
    while done < most:
        times = min(max(done, 1), most - done)
        with only_if(going()):
            for _ in range(times):
                work()
        done += times


UNROLLED = 64
"""The largest number of repetitions of a loop that is recorded as blocks."""


class CudaRecorder(AbstractRecorder):
    """CUDA graphs that share a memory pool, so that one can read the results of another.

    They must be replayed in the order in which they were recorded; loops may be repeated.

    Where torch can capture conditional nodes, the device skips and repeats work itself: torch 2.13
    has IF nodes, and pytorch#184989 adds WHILE nodes. This is tried on the device at hand.
    """

    def __init__(self) -> None:
        """Record on a separate stream."""
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._on: torch.cuda.StreamContext | None = None
        self.longest = math.inf
        self.branches = self._has("while") and self._counts_right()
        if not self.branches:
            self.longest = UNROLLED
            self.branches = self._has("if") and self._counts_right()
        # a pool whose graphs are gone cannot be used again
        self._pool = torch.cuda.graph_pool_handle()

    def begin(self) -> None:
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        self._on = torch.cuda.stream(self._stream)
        self._on.__enter__()
        self._graph.capture_begin(pool=self._pool)

    def end(self) -> Replay:
        graph, on = self._graph, self._on
        assert graph is not None
        assert on is not None
        self._graph = self._on = None
        try:
            graph.capture_end()
        finally:
            on.__exit__(None, None, None)
        return graph.replay

    def abandon(self) -> None:
        if self._graph is None:
            return
        try:
            self.end()
        except RuntimeError:
            return  # the recorded work caused the error, which has been reported already

    def only_if(self, flag: Tensor) -> AbstractContextManager[None]:
        graph: Any = self._graph
        graph.begin_capture_to_if_node(flag)
        return _node(graph)

    def repeat(self, work: Callable[[], object], going: Callable[[], Tensor], most: int) -> None:
        if self.longest < math.inf:
            in_blocks(self.only_if, work, going, most)
            return
        graph: Any = self._graph
        graph.begin_capture_to_while_node(going())
        with _node(graph):
            work()
            _refresh(graph, going())

    def _has(self, node: str) -> bool:
        return hasattr(torch.cuda.CUDAGraph, f"begin_capture_to_{node}_node")

    def _counts_right(self) -> bool:
        """Whether a recorded loop and a skipped block do what they should."""
        self._pool = torch.cuda.graph_pool_handle()
        count, limit = torch.zeros(2, dtype=torch.int32, device=self._stream.device).unbind()
        try:
            self.begin()
            self.repeat(lambda: count.add_((count < limit).int()), lambda: count < limit, 8)
            with self.only_if(count > limit):
                count.zero_()
            replay = self.end()
            found = []
            for most in (3, 5):
                limit.fill_(most)
                replay()
                found.append(int(count))
        except (RuntimeError, TypeError):
            self.abandon()
            return False
        return found == [3, 5]

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        kept = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        kept.copy_(numbers, non_blocking=True)
        there = torch.cuda.Event()
        there.record()

        def read() -> list[float]:
            there.synchronize()
            return kept.tolist()

        return read


@contextlib.contextmanager
def _node(graph: Any) -> Iterator[None]:
    """Close a conditional node at the end of a block; an error in the block goes first."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RuntimeError):
            graph.end_capture_to_conditional_node()
        raise
    graph.end_capture_to_conditional_node()


def _refresh(graph: Any, flag: Tensor) -> None:
    """Set whether the WHILE node being captured goes on; torch's name for this has changed."""
    for name in (
        "set_conditional_handle_for_current_node",
        "set_current_conditional_node_condition",
    ):
        if hasattr(graph, name):
            getattr(graph, name)(flag)
            return
    raise RuntimeError("this torch cannot end a captured loop")
