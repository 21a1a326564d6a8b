"""The processes of one run that torchrun starts: their ranks, and how they exchange values.

Only `mean` and `mean_tensors` add floating-point numbers across processes in an order that depends
on the number of processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as processes
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from bridge.errors import RunFailed

S = TypeVar("S", Sequence[int], Tensor)

joined_before = False
"""Whether this process has ever been one of several."""


@dataclass
class Group:
    """The processes of a run; by default, one alone.

    Attributes:
        rank: the number of this process.
        size: the number of processes.
        restarts: how often torchrun has restarted all processes, out of `max_restarts`.
        waited: seconds that this process has spent in collective operations.
    """

    rank: int = 0
    size: int = 1
    restarts: int = 0
    max_restarts: int = 0
    waited: float = field(default=0.0, compare=False)

    def own_part(self, whole: S) -> S:
        """This process's share of a sequence that all processes have, in order."""
        part = len(whole) // self.size
        return whole[self.rank * part : (self.rank + 1) * part]  # type: ignore[return-value]

    def gather(self, part: Tensor) -> Tensor:
        """Join the parts of all processes, of equal shapes, along the first axis, by rank."""
        if self.size == 1:
            return part
        whole = part.new_empty((self.size * len(part), *part.shape[1:]))
        with self._together():
            processes.all_gather(list(whole.chunk(self.size)), part.contiguous())
        return whole

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Mean of each number over the processes."""
        if self.size == 1:
            return dict(values)
        summed = torch.tensor(list(values.values()), dtype=torch.float64)
        with self._together():
            processes.all_reduce(summed)
        return dict(zip(values, (summed / self.size).tolist(), strict=True))

    def mean_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each tensor over the processes."""
        result = dict(tensors)
        if self.size > 1:
            for name, tensor in result.items():
                with self._together():
                    processes.all_reduce(tensor)
                result[name] = tensor / self.size
        return result

    def total(self, count: int) -> int:
        """Sum of an integer over the processes."""
        return self._reduced(count, processes.ReduceOp.SUM)

    def largest(self, number: int) -> int:
        """Largest value of an integer over the processes."""
        return self._reduced(number, processes.ReduceOp.MAX)

    def all(self, done: bool) -> bool:
        """Whether it is true in every process, so that all leave a loop together."""
        return self.total(int(done)) == self.size

    @contextlib.contextmanager
    def telling(self) -> Iterator[dict[str, Any]]:
        """Give the first process a dict; at the end of the block the others `hear` its content.

        It must hold JSON values. If the block raises, the other processes end.
        """
        message: dict[str, Any] = {}
        try:
            yield message
        except BaseException:
            self._send(b"null")
            raise
        self._send(json.dumps(message).encode())

    def hear(self) -> dict[str, Any]:
        """Receive what the first process sends with `telling`.

        Raises:
            SystemExit: the first process failed, and reports why itself.
        """
        length = torch.zeros(1, dtype=torch.int64)
        with self._together():
            processes.broadcast(length, 0)
            text = torch.empty(int(length), dtype=torch.uint8)
            processes.broadcast(text, 0)
        message = json.loads(bytes(text.tolist()))
        if message is None:
            raise SystemExit(0)
        return message

    def _send(self, text: bytes) -> None:
        if self.size > 1:
            with self._together():
                processes.broadcast(torch.tensor([len(text)]), 0)
                processes.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8), 0)

    def _reduced(self, number: int, how: Any) -> int:
        if self.size == 1:
            return number
        reduced = torch.tensor(number)
        with self._together():
            processes.all_reduce(reduced, how)
        return int(reduced)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Count the time, and report in one line that another process has ended."""
        began = time.perf_counter()
        try:
            yield
        except RuntimeError as error:
            raise RunFailed(
                f"another process of this run has ended ({_first_line(error)}); what it said last "
                "tells why, torchrun --max-restarts N starts all again from the last checkpoint"
            ) from None
        self.waited += time.perf_counter() - began


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[Group]:
    """Join the processes that torchrun started within a block; one alone without torchrun.

    Args:
        device: where the processes compute, "cpu" or "cuda".
    """
    group = _join(device)
    try:
        yield group
    finally:
        if group.size > 1:
            processes.destroy_process_group()


def _join(device: str) -> Group:
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    allowed = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if not launched():
        return Group(restarts=restarts, max_restarts=allowed)
    global joined_before
    joined_before = True
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not processes.is_initialized():
        store, rank, size = next(rendezvous("env://"))
        # The store outlives a restart; with the old keys gloo would contact dead processes.
        store = PrefixStore(f"restart {restarts}", store)
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        processes.init_process_group(backend, store=store, rank=rank, world_size=size)
    return Group(processes.get_rank(), processes.get_world_size(), restarts, allowed)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
