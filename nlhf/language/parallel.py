"""Several processes that share one step by averaging their gradients."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.loading import TINY
from nlhf.language.policy import Policy
from nlhf.language.quantising import is_packed

S = TypeVar("S", Sequence[int], Tensor)


class AbstractGroup(Protocol):
    """The processes of a run; implemented in `bridge.distributed`."""

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def own_part(self, whole: S) -> S:
        """Return this process's part of a sequence."""
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
        """Whether `done` is true in every process."""
        ...


def synchronising(
    model: nn.Module | None, group: AbstractGroup, last: bool
) -> AbstractContextManager[object]:
    """Exchange gradients only in the last pass of a step, where the model supports it."""
    if group.size == 1 or last or not hasattr(model, "no_sync"):
        return nullcontext()
    wrapped: Any = model
    return wrapped.no_sync()


def distribute_model(policy: Policy, group: AbstractGroup, kind: str) -> None:
    """Average gradients over the processes: by DDP, or with sharded weights by FSDP2.

    Args:
        policy: modified in place; every process has the same weights.
        group: a group of one changes nothing.
        kind: "ddp" or "fsdp".

    Raises:
        InputError: an unknown kind, or weights that cannot be split or saved in shards.
    """
    if group.size == 1:
        return
    if kind == "ddp":
        wrap: Any = torch.nn.parallel.DistributedDataParallel
        known = inspect.signature(wrap).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        policy.forward_model = wrap(policy.model, **{buffers: False})
    elif kind == "fsdp":
        if is_packed(policy.model):
            raise InputError(
                f"shard=fsdp cannot split the packed weights of {policy.name}; use shard=ddp, or "
                "leave out quantise"
            )
        if policy.has_adapter and policy.name.startswith(TINY):
            # it is saved by merging, for which one process would run passes that need all
            raise InputError(
                f"shard=fsdp cannot save an adapter on {policy.name}, which is only in memory; use "
                "shard=ddp, or leave out lora.rank"
            )
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
    """All weights gathered from their shards, by name; None if nothing is sharded.

    Every process must call this, because each one sends its shards to the others.
    """
    from torch.distributed.tensor import DTensor

    state = policy.model.state_dict()
    if not any(isinstance(tensor, DTensor) for tensor in state.values()):
        return None
    return {
        name: tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        for name, tensor in state.items()
    }
