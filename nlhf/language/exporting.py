"""The weights of pi or mu under the names of a plain checkpoint, for a program that samples."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.extras import need
from nlhf.language.policy import Policy
from nlhf.language.quantising import PackedLinear


def exported(policy: Policy, *, reference: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Every weight of pi, or of mu, a layer at a time, as `save_pretrained` would store it.

    An adapter is added to the weights of its base, W + (alpha / r) B A, and packed weights are
    unpacked. The policy itself stays as it is: merging into its base and out again would round.

    Args:
        policy: its adapter, if any, is LoRA of linear layers.
        reference: the weights of mu in place of those of pi.
    """
    apart = reference and policy.reference is not None
    model: Any = policy.reference if apart else policy.model
    adds = policy.has_adapter and (apart or not reference)
    inner = model.get_base_model() if policy.has_adapter else model
    stored = need("transformers.core_model_loading").revert_weight_conversion
    # a checkpoint may have other names, and experts one by one; to find out takes a walk over the
    # model, so that it is done once a layer
    for _, layer in itertools.groupby(_weights(inner, adds), lambda named: _block(named[0])):
        yield from stored(inner, dict(layer)).items()


def _weights(model: Any, adds: bool) -> Iterator[tuple[str, Tensor]]:
    """A model's whole weights by its own names, with what an adapter adds if asked for."""
    seen: set[int] = set()
    for place, module in model.named_modules():
        if ".lora_" in f".{place}." or ".base_layer." in f".{place}.":
            continue
        layer = module.get_base_layer() if _is_adapted(module) else module
        for name, tensor in _stored(layer):
            if id(tensor) in seen:  # tied weights have one name
                continue
            seen.add(id(tensor))
            packed = isinstance(layer, PackedLinear) and name == "weight"
            weight = layer.unpacked() if packed else tensor.detach()
            if adds and layer is not module and name == "weight":
                weight = weight + _added(module).to(weight)
            yield f"{place}.{name}" if place else name, weight


def _block(name: str) -> str:
    """The layer that a weight belongs to: its name up to the first number."""
    found = re.match(r".*?\.\d+\.", name)
    return found.group() if found else ""


def check_exportable(policy: Policy) -> None:
    """Raise if the policy is more than weights of linear layers and what LoRA adds to them.

    Raises:
        InputError: its adapter is of another form.
    """
    if not policy.has_adapter:
        return
    odd = [n for n in policy.trainable() if ".lora_A." not in n and ".lora_B." not in n]
    changes_weights = need("peft.tuners.lora.layer").ParamWrapper
    odd += [
        name
        for name, module in policy.model.named_modules()
        if _is_adapted(module) and (module.lora_variant or isinstance(module, changes_weights))
    ]
    if odd:
        raise InputError(
            f"{policy.name}: its adapter has {odd[0]}, which is no LoRA of a linear layer, and "
            "cannot be handed to vLLM; leave out sampler=vllm, or merge the adapter"
        )


def _stored(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A layer's own parameters and buffers that belong to a checkpoint."""
    yield from layer.named_parameters(recurse=False)
    if not isinstance(layer, PackedLinear):
        for name, buffer in layer.named_buffers(recurse=False):
            if name not in layer._non_persistent_buffers_set:
                yield name, buffer


def _is_adapted(module: Any) -> bool:
    return isinstance(getattr(module, "lora_A", None), nn.ModuleDict) and len(module.lora_A) > 0


def _added(module: Any) -> Tensor:
    """What the active adapters add to a layer's weights."""
    first, *others = module.active_adapters
    total: Tensor = module.get_delta_weight(first)
    for name in others:
        total = total + module.get_delta_weight(name)
    return total.detach()
