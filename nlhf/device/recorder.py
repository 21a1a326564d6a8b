"""What notes a GPU's work to do it again without Python: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class AbstractRecorder(Protocol):
    """What records a function's work on the device, without doing it, to be done again."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Give what does the recorded work.

        Raises:
            RuntimeError: the work cannot be recorded, for it waits for the device.
        """
        ...

    def fetch(self, tensor: Tensor) -> Callable[[], Any]:
        """Have the device send numbers as they will be here; what is given waits for them."""
        ...


class CudaRecorder(AbstractRecorder):
    """CUDA graphs."""

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
            # the end of a capture that failed hides why it did
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
    """What the works give. On a GPU, recorded or not, they run beside each other.

    Each but the first has a stream of its own, which waits for what came before and is waited for
    by what comes after. Memory that one of them frees is not used again before that.
    """
    if device.type != "cuda" or len(works) < 2:
        return [work() for work in works]
    here = torch.cuda.current_stream(device)
    others = [_stream(device, i) for i in range(len(works) - 1)]
    for other in others:
        other.wait_stream(here)
    found: list[T] = []
    for other, work in zip((None, *others), works, strict=True):
        with torch.cuda.stream(other):  # none: as it is
            found.append(work())
    for other in others:
        here.wait_stream(other)
    return found


_STREAMS: dict[tuple[torch.device, int], torch.cuda.Stream] = {}


def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """Always the same one: what it frees is taken again by it alone."""
    if (device, number) not in _STREAMS:
        _STREAMS[device, number] = torch.cuda.Stream(device)
    return _STREAMS[device, number]
