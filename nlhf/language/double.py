"""Support for float64 models, which transformers does not fully handle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

EAGER = "eager"


@contextmanager
def ready(model: nn.Module) -> Iterator[None]:
    """Within the block, a float64 model computes the same as in float32, only more precisely.

    Eager attention masks by the lowest number of the weights' dtype and takes the softmax in
    float32, where the lowest float64 is -inf. A padded position that attends to nothing is then
    NaN, and so is whatever depends on it. Here masks use the lowest float32. Experts are multiplied
    one by one, because torch's grouped product does not support float64.
    """
    if next(model.parameters()).dtype != torch.float64:
        yield
        return
    inner: Any = model
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    config = getattr(inner, "config", None)
    if getattr(config, "_experts_implementation", EAGER) not in (EAGER, None):
        inner.set_experts_implementation(EAGER)
    if getattr(config, "_attn_implementation", None) != EAGER:
        yield
        return
    with _finite_masks():
        yield


@contextmanager
def _finite_masks() -> Iterator[None]:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    masks: Any = ALL_MASK_ATTENTION_FUNCTIONS
    made = masks[EAGER]
    lowest = torch.finfo(torch.float32).min

    def clamped(*args: object, **settings: object) -> Tensor | None:
        mask = made(*args, **settings)
        return mask if mask is None or mask.dtype == torch.bool else mask.clamp_min(lowest)

    masks[EAGER] = clamped
    try:
        yield
    finally:
        masks[EAGER] = made
