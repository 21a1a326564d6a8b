"""A recorder on the CPU that mimics a CUDA graph: it records operations and replays them.

Python code between the operations is not repeated, numbers that it computed stay the same, tensors
keep their addresses, and any wait for the device is an error. Recording itself changes nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bioplaus.device.recorder import in_blocks

WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "item",
    "is_nonzero",
    "equal",
    "masked_select",
    "unique",
)


class _Notes(TorchDispatchMode):
    """Runs and records operations, and keeps the previous content of the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []
        self.before: dict[int, tuple[torch.UntypedStorage, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise RuntimeError(f"{name} waits for the device, which is recording")
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"{name} draws numbers of the host, which would stay the same")
        for tensor in pytree.tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._keep(tensor)
        made = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, made))
        for tensor in pytree.tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.before:
                self._made.add(tensor.untyped_storage()._cdata)
        return made

    def _keep(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.before and storage._cdata not in self._made:
            self.before[storage._cdata] = (storage, storage.clone())

    def undo(self) -> None:
        """Undo the changes of the recorded operations."""
        for storage, was in self.before.values():
            storage.copy_(was)


class _Branch:
    """Operations that are replayed if, or as long as, a flag is true."""

    def __init__(self, flag: Tensor, repeats: bool) -> None:
        self.flag, self.repeats = flag, repeats
        self.operations: list[Any] = []


class Recorder:
    """Records operations.

    Attributes:
        told: the calls in order: "record", "replay", "fetch", "read", and within a replay "branch"
            for each time that a branch is taken.
        branches, longest: whether there are branches, as in a CUDA graph with IF nodes, or with
            WHILE nodes too if `longest` is infinite.
    """

    def __init__(self, branches: bool = False, longest: float = math.inf) -> None:
        self.told: list[str] = []
        self.branches, self.longest = branches, longest
        self._notes: _Notes | None = None

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.begin()
        try:
            work()
        except BaseException:
            self.abandon()
            raise
        return self.end()

    def begin(self) -> None:
        self._notes = _Notes()
        self._notes.__enter__()

    def end(self) -> Callable[[], None]:
        self.told.append("record")
        notes, self._notes = self._notes, None
        assert notes is not None
        notes.__exit__(None, None, None)
        notes.undo()

        def replay() -> None:
            self.told.append("replay")
            with torch.no_grad():
                self._replay(notes.operations)

        return replay

    def _replay(self, operations: list[Any]) -> None:
        for each in operations:
            if isinstance(each, _Branch):
                while bool(each.flag):
                    self.told.append("branch")
                    self._replay(each.operations)
                    if not each.repeats:
                        break
            else:
                func, args, kwargs, made = each
                _put(made, func(*args, **kwargs))

    @contextlib.contextmanager
    def only_if(self, flag: Tensor) -> Iterator[None]:
        with self._branch(flag, repeats=False):
            yield

    def repeat(self, work: Callable[[], None], going: Callable[[], Tensor], most: int) -> None:
        assert most <= self.longest
        if self.longest < math.inf:
            in_blocks(self.only_if, work, going, most)
            return
        flag = going()
        with self._branch(flag, repeats=True):
            work()
            flag.copy_(going())

    @contextlib.contextmanager
    def _branch(self, flag: Tensor, repeats: bool) -> Iterator[None]:
        assert self.branches
        assert flag.dtype == torch.bool
        assert flag.shape == ()
        notes, branch = self._notes, _Branch(flag, repeats)
        assert notes is not None
        notes.operations.append(branch)
        outside, notes.operations = notes.operations, branch.operations
        try:
            yield
        finally:
            notes.operations = outside

    def abandon(self) -> None:
        if self._notes is not None:
            self.end()

    def fetch(self, tensor: Tensor) -> Callable[[], list[float]]:
        """Copy the present numbers; they can be read later."""
        self.told.append("fetch")
        kept = tensor.clone()

        def read() -> list[float]:
            self.told.append("read")
            return kept.tolist()

        return read


def _put(made: Any, again: Any) -> None:
    """Write an operation's new result to the place of its old one."""
    for old, new in zip(pytree.tree_leaves(made), pytree.tree_leaves(again), strict=True):
        if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
            old.copy_(new)
