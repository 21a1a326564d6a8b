"""What a model keeps of the tokens that it has read."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward has an argument of that name."""
    inner: Any = model
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return argument in inspect.signature(inner.forward).parameters


def cache_argument(model: nn.Module) -> str:
    """The name by which the model's forward takes a cache."""
    return "cache" if takes(model, "cache") else "past_key_values"


def new_cache(config: Any) -> Any:
    """An empty cache for a model of this config: keys and values, windows of them, or states."""
    from transformers import DynamicCache

    return DynamicCache(config=config)


def choose_rows(cache: Any, index: Tensor) -> None:
    """Leave these rows in a cache, some of them several times.

    Beam search needs that too, so that every kind of cache can do it.
    """
    cache.reorder_cache(index)


def holds_keys_only(cache: Any) -> bool:
    """Whether all of a cache is keys and values, with or without a window.

    States (linear attention, convolutions) are overwritten in place, which a gradient forbids, and
    many models with states take one new token at a time only.
    """
    from transformers import cache_utils as kinds

    known = (kinds.DynamicLayer, kinds.DynamicSlidingWindowLayer, kinds.DummyLayer)
    return all(type(layer) in known for layer in cache.layers)


def holds_states_only(cache: Any) -> bool:
    """Whether nothing in a cache belongs to a place, so that a new token needs no mask of them."""
    return not any(hasattr(layer, "keys") for layer in cache.layers)
