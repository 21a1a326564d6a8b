"""Dropout of the inputs of a LoRA adapter, in the passes that make its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.extras import need

Part = Callable[[Tensor], Tensor]
"""Takes this process's part of a tensor that all processes have."""


class AdapterDropout:
    """Sets each input of an adapter's layers to zero with probability p, and scales the others.

    An adapted layer computes W x + (alpha / r) B A d(x), where d zeroes entries of x and divides
    the others by 1 - p. The base's own part W x, and so the reference, stay whole.

    Source: Srivastava et al. 2014 (JMLR 15), section 4; Hu et al. 2021 (arXiv 2106.09685) for
    adapters.
    """

    def __init__(
        self,
        layers: Sequence[nn.Dropout],
        generator: torch.Generator,
        *,
        processes: int = 1,
        part: Part = lambda whole: whole,
    ) -> None:
        """Take the layers that drop.

        Args:
            layers: they drop within `on` only.
            generator: a CPU generator, in the same state in every process; each pass takes one
                seed for each process.
            processes: how many processes share a step.
            part: takes the part of this one.
        """
        self._layers, self._generator = tuple(layers), generator
        self._processes, self._part = processes, part

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Within the block, inputs are dropped; torch's global generators are left as they were.

        Args:
            device: where the model computes.
        """
        seeds = torch.randint(2**62, (self._processes,), generator=self._generator)
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), switched_on(self._layers):
            torch.manual_seed(int(self._part(seeds)))
            yield

    def state(self) -> Tensor:
        """The state of the generator."""
        return self._generator.get_state()

    def load(self, state: Tensor) -> None:
        """Restore what `state` returned."""
        self._generator.set_state(state)


@contextmanager
def switched_on(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, these layers are in training mode, and their parts as they were."""
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.training = was


def make_droppable(model: Any, p: float, name: str) -> list[nn.Dropout]:
    """Give every layer of an adapter a dropout of its input, switched off.

    Args:
        model: a peft model with a new or a loaded adapter; it is saved with this probability.
        p: probability in (0, 1) with which an input is zeroed.
        name: name of the model in messages.

    Returns:
        The dropout layers.

    Raises:
        InputError: there is no adapter, p is out of range, or part of the adapter changes weights
            in place of outputs, as that of experts does.
    """
    if not 0 < p < 1:
        raise InputError(f"lora.dropout={p:g} must lie between 0 and 1")
    if not hasattr(model, "disable_adapter"):
        raise InputError(
            f"lora.dropout={p:g} drops inputs of an adapter, and {name} gets none; give lora.rank "
            "too, or leave it out"
        )
    changes_weights = need("peft.tuners.lora.layer").ParamWrapper
    layers: list[nn.Dropout] = []
    for place, module in model.named_modules():
        drops = getattr(module, "lora_dropout", None)
        if not isinstance(drops, nn.ModuleDict):
            continue
        if isinstance(module, changes_weights):
            raise InputError(
                f"lora.dropout={p:g} cannot act on {place} of {name}, where the adapter changes a "
                "weight and has no input; choose other lora.targets, or leave it out"
            )
        for key in list(drops):
            layer = nn.Dropout(p).eval()
            drops[key] = layer
            layers.append(layer)
    for each in model.peft_config.values():
        each.lora_dropout = p
    return layers
