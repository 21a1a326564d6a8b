"""Several processes that share one step: how their gradients are averaged."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.policy import Policy

S = TypeVar("S", Sequence[int], Tensor)


class AbstractGroup(Protocol):
    """The processes of a run, as `bridge.distributed` has them."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def own_part(self, whole: S) -> S:
        """Give the part of a sequence that is this process's."""
        ...

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Average numbers over the processes, by name."""
        ...

    def mean_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Average tensors over the processes, by name."""
        ...

    def total(self, count: int) -> int:
        """Sum a number over the processes."""
        ...

    def all(self, done: bool) -> bool:
        """Whether it is so in every process."""
        ...


def synchronising(
    model: nn.Module | None, group: AbstractGroup, last: bool
) -> AbstractContextManager[object]:
    """Gradients are exchanged in the last pass of a step only, where the model does that."""
    if group.size == 1 or last or not hasattr(model, "no_sync"):
        return nullcontext()
    wrapped: Any = model
    return wrapped.no_sync()


def distribute_model(policy: Policy, group: AbstractGroup, kind: str) -> None:
    """Let the processes' gradients be averaged: by DDP, or with the weights in shards by FSDP2.

    Args:
        policy: prepared in place; every process has the same weights.
        group: nothing happens in a group of one.
        kind: "ddp" or "fsdp".
    """
    if group.size == 1:
        return
    if kind == "ddp":
        wrap: Any = torch.nn.parallel.DistributedDataParallel
        known = inspect.signature(wrap).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        policy.forward_model = wrap(policy.model, **{buffers: False})
    elif kind == "fsdp":
        for model in (policy.model, policy.reference):
            if model is not None:
                _shard(model)
    else:
        raise InputError(f"shard={kind!r} is unknown; use ddp or fsdp")


def _shard(model: nn.Module) -> None:
    from torch.distributed.fsdp import fully_shard

    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block)
    fully_shard(model)


def whole_weights(policy: Policy) -> dict[str, Tensor] | None:
    """All weights out of their shards, by name; None where there are none.

    Every process must ask: they give each other their parts.
    """
    from torch.distributed.tensor import DTensor

    state = policy.model.state_dict()
    if not any(isinstance(tensor, DTensor) for tensor in state.values()):
        return None
    return {
        name: tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        for name, tensor in state.items()
    }
