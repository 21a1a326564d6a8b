"""Merge a LoRA adapter into its base, so that the whole model computes what the two computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.double import ready
from nlhf.language.quantising import unpack

FAR = 1e-4
"""Largest difference between outputs of the merged and the adapted model, per unit of their size
and of the adapter's effect; 1,000 times larger in half precision."""


@torch.no_grad()
def merged(model: Any) -> Any:
    """A copy of a peft model with its adapter merged into the weights of the base.

    Some layers read the weight of a part and do not call it, as those of Jamba read that of
    `dt_proj`. An adapter on such a part has no effect until it is merged. It is left out. Packed
    weights of the base are unpacked first.

    Raises:
        InputError: the merged model computes something else than the adapted one.
    """
    inputs = _inputs(model)
    expected = _output(model, inputs)
    with model.disable_adapter():
        effect = float((expected - _output(model, inputs)).abs().max())
    copied = copy.deepcopy(model)
    unpack(copied)
    for layer in _read_and_not_called(copied, inputs):
        for up in layer.lora_B.values():
            up.weight.zero_()
    whole = copied.merge_and_unload()
    far = FAR * (1000 if expected.dtype in (torch.bfloat16, torch.float16) else 1)
    difference = float((_output(whole, inputs) - expected).abs().max())
    # written so that NaN counts as far
    if not difference <= far * (1 + effect + float(expected.abs().max())):
        raise InputError(
            f"merging the adapter into {type(whole).__name__} gives another model (its outputs "
            f"differ by {difference:.2g}); keep the adapter, or train all weights"
        )
    return whole


def _read_and_not_called(model: Any, inputs: dict[str, Tensor]) -> list[Any]:
    """The adapted layers whose weight the model reads without calling the layer."""
    adapted = [m for m in model.modules() if isinstance(getattr(m, "lora_B", None), nn.ModuleDict)]
    called: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda m, *_: called.add(m)) for m in adapted]
    _output(model, inputs)
    for hook in hooks:
        hook.remove()
    found = []
    for layer in adapted:
        # a part that is neither called nor read, as an expert that no token chose, stays as it is
        weight = getattr(layer.get_base_layer(), "weight", None)
        if layer in called or weight is None:
            continue
        kept = weight.detach().clone()
        weight.fill_(torch.nan)
        if not bool(_output(model, inputs).isfinite().all()):
            found.append(layer)
        weight.copy_(kept)
    return found


def _inputs(model: Any) -> dict[str, Tensor]:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    device = next(model.parameters()).device
    return {"input_ids": (torch.arange(24, device=device) * 7 % vocabulary).reshape(3, 8)}


def _output(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    training = model.training
    model.eval()
    with ready(model):
        out = model(**inputs)
    model.train(training)
    logits = getattr(out, "logits", None)
    return out.last_hidden_state if logits is None else torch.log_softmax(logits, -1)
