"""Several processes that share one step: who takes which prompts, and how means are taken."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.policy import Policy

S = TypeVar("S", Sequence[int], Tensor)


@dataclass(frozen=True)
class Group:
    """The processes of a run; one alone by default."""

    rank: int = 0
    size: int = 1

    def share(self, whole: S) -> S:
        """This process's part of what all have, in order: prompts, or rows of random numbers."""
        part = len(whole) // self.size
        return whole[self.rank * part : (self.rank + 1) * part]  # type: ignore[return-value]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Mean of each number over the processes."""
        if self.size == 1:
            return dict(values)
        summed = torch.tensor(list(values.values()), dtype=torch.float64)
        torch.distributed.all_reduce(summed)
        return dict(zip(values, (summed / self.size).tolist(), strict=True))

    def mean_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each tensor over the processes."""
        result = dict(tensors)
        if self.size > 1:
            for name, tensor in result.items():
                torch.distributed.all_reduce(tensor)
                result[name] = tensor / self.size
        return result

    def total(self, count: int) -> int:
        """Sum of a whole number over the processes."""
        if self.size == 1:
            return count
        summed = torch.tensor(count)
        torch.distributed.all_reduce(summed)
        return int(summed)

    def all(self, done: bool) -> bool:
        """Whether it is so in every process: they leave a loop together."""
        return self.total(int(done)) == self.size

    def synchronising(self, model: nn.Module | None, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged in the last pass of a step only, where the model does that."""
        if self.size == 1 or last or not hasattr(model, "no_sync"):
            return nullcontext()
        wrapped: Any = model
        return wrapped.no_sync()


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str = "cpu") -> Group:
    """Join the processes that torchrun started; alone without torchrun."""
    if not launched():
        return Group()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return Group(torch.distributed.get_rank(), torch.distributed.get_world_size())


def share_model(policy: Policy, group: Group, kind: str) -> None:
    """Let the processes' gradients be averaged: by DDP, or with the weights in shards by FSDP2.

    Args:
        policy: prepared in place; every process has the same weights.
        group: nothing happens in a group of one.
        kind: "ddp" or "fsdp".
    """
    if group.size == 1:
        return
    if kind == "ddp":
        wrap = torch.nn.parallel.DistributedDataParallel
        policy.forward_model = wrap(policy.model, broadcast_buffers=False)
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


def leave() -> None:
    """Undo `join`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
