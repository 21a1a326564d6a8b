"""Caches that hold what a model has computed for the tokens read so far."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward accepts an argument of that name."""
    inner: Any = model
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return argument in inspect.signature(inner.forward).parameters


def cache_argument(model: nn.Module) -> str:
    """The name of the cache argument of the model's forward."""
    return "cache" if takes(model, "cache") else "past_key_values"


def new_cache(config: Any) -> Any:
    """An empty cache for a model of this config: full or windowed keys and values, or states."""
    from transformers import DynamicCache

    return DynamicCache(config=config)


def choose_rows(cache: Any, index: Tensor) -> None:
    """Keep the given rows of a cache; a row may be repeated.

    Beam search relies on the same operation, so every kind of cache supports it.
    """
    cache.reorder_cache(index)


def holds_keys_only(cache: Any) -> bool:
    """Whether a cache consists of keys and values only, windowed or not.

    States (linear attention, convolutions) are overwritten in place, which breaks gradients. Many
    models with states also accept only one new token at a time.
    """
    from transformers import cache_utils as kinds

    known = (kinds.DynamicLayer, kinds.DynamicSlidingWindowLayer, kinds.DummyLayer)
    return all(type(layer) in known for layer in cache.layers)


def holds_states_only(cache: Any) -> bool:
    """Whether no part of a cache depends on position, so that a new token needs no mask."""
    return not any(hasattr(layer, "keys") for layer in cache.layers)
