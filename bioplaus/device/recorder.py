"""What notes a GPU's work to do it again without Python: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Replay = Callable[[], None]


class AbstractRecorder(Protocol):
    """Notes work on the device, without doing it."""

    def begin(self) -> None:
        """Note what follows."""
        ...

    def end(self) -> Replay:
        """Note no more; give what does the noted work.

        Raises:
            RuntimeError: something in it cannot be noted, for it waits for the device.
        """
        ...

    def abandon(self) -> None:
        """Note no more and forget what was noted, after an error."""
        ...

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        """Have the device send numbers as they will be here; what is given waits for them."""
        ...


class CudaRecorder(AbstractRecorder):
    """CUDA graphs of one memory pool, so that one can read what another has left.

    They must be replayed in the order in which they were noted, loops as often as they like.
    """

    def __init__(self) -> None:
        """Note on a stream of its own."""
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
            return  # what was noted was at fault, as is known already

    def fetch(self, numbers: Tensor) -> Callable[[], list[Any]]:
        kept = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        kept.copy_(numbers, non_blocking=True)
        there = torch.cuda.Event()
        there.record()

        def read() -> list[float]:
            there.synchronize()
            return kept.tolist()

        return read
