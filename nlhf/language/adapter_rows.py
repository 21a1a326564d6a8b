"""Apply a LoRA adapter to the first rows of a batch only, where the model allows it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.double import ready

NOISE = 0.3
"""Standard deviation of the noise added to the adapter while it is tested."""


class LostRows(RuntimeError):
    """The input of an adapter layer was not the rows of the batch."""


class AdapterRows:
    """Restricts a LoRA adapter to the first rows of a batch.

    The adapter adds B A x, which is zero where A x is zero. So pi and mu can be two groups of rows
    of one forward pass. This works for linear layers on [rows, ...] and on [rows * columns, ...].
    It fails where a layer sees only some of the tokens, or where the adapter changes a weight
    itself, as peft does for experts stored in one tensor. `agree` tests for this.
    """

    def __init__(self, model: nn.Module) -> None:
        """Hook into every adapter layer of the model."""
        self._model: Any = model
        self._shape: tuple[int, int, int] | None = None
        self._called: set[str] = set()
        self._layers: set[str] = set()
        for name, module in model.named_modules():
            down = getattr(module, "lora_A", None)
            if isinstance(down, nn.ModuleDict):
                for key, layer in down.items():
                    self._layers.add(f"{name}.lora_A.{key}")
                    layer.register_forward_hook(self._hook(f"{name}.lora_A.{key}"))

    @contextmanager
    def first(self, own: int, ids: Tensor) -> Iterator[None]:
        """Within the block, rows of `ids` [rows, columns] from index `own` on use the base model.

        Raises:
            LostRows: a layer's input is not these rows.
        """
        self._shape = own, ids.shape[0], ids.shape[1]
        try:
            yield
        finally:
            self._shape = None

    def _hook(self, name: str) -> Any:
        def silence(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if self._shape is None:
                return output
            own, rows, columns = self._shape
            if len(output) not in (rows, rows * columns):
                raise LostRows(f"{name} has {len(output)} rows of {rows}")
            self._called.add(name)
            own *= len(output) // rows
            if own == len(output):
                return output
            return torch.cat((output[:own], torch.zeros_like(output[own:])))

        return silence

    @torch.no_grad()
    def agree(self) -> bool:
        """Whether one pass gives the same result as two passes with the adapter on and off.

        The test runs on three rows of four tokens with noise on all trainable weights, because a
        new adapter's B is zero and would hide every mistake. Afterwards the weights are bitwise
        unchanged.

        Raises:
            InputError: the base model's output changes with the adapter's weights, or a pass fails.
        """
        model = self._model
        learned = {n: p for n, p in model.named_parameters() if p.requires_grad or "lora_" in n}
        # otherwise a bias, embedding, scale or copied module, which acts on every row
        plain = all(_is_factor(name) for name in learned)
        vocabulary = model.get_input_embeddings().weight.shape[0]
        device = next(model.parameters()).device
        inputs = {"input_ids": (torch.arange(12, device=device) % vocabulary).reshape(3, 4)}
        try:
            before = self._base(inputs)
        except Exception as error:  # third-party models can raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            raise InputError(
                f"the model under the adapter fails in a plain pass: {reason}"
            ) from None
        kept = {name: parameter.detach().clone() for name, parameter in learned.items()}
        try:
            _disturb(learned)
            pi, mu = _log_probs(model, inputs), self._base(inputs)
            effect = float((pi - mu).abs().max())
            if not (effect > 0 and math.isfinite(effect)):
                return False
            if _far(before, mu, effect):
                raise InputError(
                    "the adapter changes weights of its base, so that there is no reference; train "
                    'one with bias="none", or merge it'
                )
            self._called.clear()
            with self.first(1, inputs["input_ids"]):
                both = _log_probs(model, inputs)
            whole = plain and self._called == self._layers
            return whole and not _far(both, torch.cat((pi[:1], mu[1:])), effect)
        except LostRows:
            return False
        finally:
            for name, parameter in learned.items():
                parameter.copy_(kept[name])

    def _base(self, inputs: dict[str, Tensor]) -> Tensor:
        with warnings.catch_warnings():
            # treat peft's warnings as errors
            warnings.filterwarnings("ignore", message="Careful, disabling adapter layers")
            with self._model.disable_adapter():
                return _log_probs(self._model, inputs)


def _is_factor(name: str) -> bool:
    """Whether the parameter is A or B of a linear layer."""
    return name.endswith(".weight") and (".lora_A." in name or ".lora_B." in name)


def _disturb(parameters: dict[str, nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter += NOISE * torch.randn(parameter.shape, generator=generator).to(parameter)


def _log_probs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with ready(model):
        return torch.log_softmax(model(**inputs, use_cache=False).logits, -1)


def _far(a: Tensor, b: Tensor, effect: float) -> bool:
    """Whether two outputs differ by more than rounding, relative to the adapter's effect."""
    coarse = a.dtype in (torch.bfloat16, torch.float16)
    # written so that NaN counts as far
    return not float((a - b).abs().max()) <= (0.1 if coarse else 1e-3) * effect
