"""Gradient checkpointing: recompute activations in the backward pass instead of storing them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from nlhf.errors import InputError
from nlhf.language.adapter_dropout import switched_on
from nlhf.language.extras import need
from nlhf.language.policy import Policy


def checkpoint_layers(policy: Policy) -> None:
    """Store only the input of each layer in passes that need a gradient.

    Sampling and scoring without a gradient are unchanged. The model's own dropout stays off; that
    of an adapter drops the same inputs in both runs of a layer.
    Each prompt is then run once per answer, because a recomputed layer cannot read a cache.

    Raises:
        InputError: the model has no layers that can be checkpointed.
    """
    model: Any = policy.model
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not getattr(inner, "supports_gradient_checkpointing", False):
        raise InputError(
            f"{policy.name} ({type(inner).__name__}) has no gradient checkpointing; "
            "--set gradient_checkpointing=false"
        )
    # renamed in transformers 5.10
    newer = getattr(inner, "activation_checkpointing_enable", None)
    enable = newer or inner.gradient_checkpointing_enable
    enable(**{_keyword(enable): {"use_reentrant": False}})
    if policy.has_adapter and hasattr(inner, "enable_input_require_grads"):
        inner.enable_input_require_grads()
    kind = need("transformers.modeling_layers").GradientCheckpointingLayer
    layers = tuple(each for each in inner.modules() if isinstance(each, kind))
    if not layers:
        raise InputError(
            f"{policy.name} ({type(inner).__name__}) checkpoints in a way of its own; "
            "--set gradient_checkpointing=false"
        )
    for layer in layers:
        layer._gradient_checkpointing_func = partial(_twice, layer)
    policy.checkpointed, policy.shares = layers, False


def _twice(layer: nn.Module, run: Callable[..., Any], *inputs: object) -> Any:
    """Run a layer, and rerun it for the gradient.

    The layer computes as in evaluation mode, without its own dropout. Parts that are in training
    mode now, as the dropout of an adapter's inputs, are so in the second run too; there
    `torch.utils.checkpoint` restores torch's global generators.
    """
    active = [part for part in layer.modules() if part.training and part is not layer]

    def plain(*inputs: object) -> Any:
        trains, layer.training = layer.training, False
        try:
            with switched_on(active):
                return run(*inputs)
        finally:
            layer.training = trains

    return checkpoint(plain, *inputs, use_reentrant=False)


def _keyword(enable: Any) -> str:
    return next(name for name in inspect.signature(enable).parameters if name.endswith("_kwargs"))
