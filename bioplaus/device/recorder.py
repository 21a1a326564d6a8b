"""Record a GPU's work to replay it without Python: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Replay = Callable[[], None]


class AbstractRecorder(Protocol):
    """Records work on the device without doing it."""

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

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        """Queue a transfer of numbers from the device; the returned function waits for them."""
        ...


class CudaRecorder(AbstractRecorder):
    """CUDA graphs that share a memory pool, so that one can read the results of another.

    They must be replayed in the order in which they were recorded; loops may be repeated.
    """

    def __init__(self) -> None:
        """Record on a separate stream."""
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._on: torch.cuda.StreamContext | None = None

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

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        kept = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        kept.copy_(numbers, non_blocking=True)
        there = torch.cuda.Event()
        there.record()

        def read() -> list[float]:
            there.synchronize()
            return kept.tolist()

        return read
