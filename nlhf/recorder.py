"""Record GPU work and replay it without Python, by CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class AbstractRecorder(Protocol):
    """Records the device work of a function, without doing it, for later replay."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work; return a function that replays it.

        Raises:
            RuntimeError: the work cannot be recorded, because it waits for the device.
        """
        ...

    def fetch(self, tensor: Tensor) -> Callable[[], Any]:
        """Start copying a tensor to the host; the returned function waits for the values."""
        ...


class CudaRecorder(AbstractRecorder):
    """Recorder that uses CUDA graphs."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        reason: list[BaseException] = []

        def watched() -> None:
            try:
                work()
            except BaseException as error:
                reason.append(error)
                raise

        try:
            with torch.cuda.graph(graph):
                watched()
        except RuntimeError as error:
            # the error at the end of a failed capture hides its cause
            raise RuntimeError(str(reason[0] if reason else error)) from error
        return graph.replay

    def fetch(self, tensor: Tensor) -> Callable[[], Any]:
        kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        kept.copy_(tensor, non_blocking=True)
        there = torch.cuda.Event()
        there.record()

        def read() -> Any:
            there.synchronize()
            return kept.tolist()

        return read


def at_once(works: Sequence[Callable[[], T]], device: torch.device) -> list[T]:
    """Call all works and return their results. On a GPU they run concurrently, recorded or not.

    Each work except the first has its own stream, which waits for all earlier work; later work
    waits for it. Memory that a work frees is not reused before that.
    """
    if device.type != "cuda" or len(works) < 2:
        return [work() for work in works]
    here = torch.cuda.current_stream(device)
    others = [_stream(device, i) for i in range(len(works) - 1)]
    for other in others:
        other.wait_stream(here)
    found: list[T] = []
    for other, work in zip((None, *others), works, strict=True):
        with torch.cuda.stream(other):  # None changes nothing
            found.append(work())
    for other in others:
        here.wait_stream(other)
    return found


_STREAMS: dict[tuple[torch.device, int], torch.cuda.Stream] = {}


def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """The same stream for the same number, so that it reuses its own freed memory."""
    if (device, number) not in _STREAMS:
        _STREAMS[device, number] = torch.cuda.Stream(device)
    return _STREAMS[device, number]
