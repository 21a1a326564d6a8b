"""New LoRA adapters."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from nlhf.errors import InputError
from nlhf.language.extras import need


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter.

    Attributes:
        rank: r >= 1.
        alpha: the adapter is scaled by alpha / r.
        targets: endings of the names of the linear layers that get an adapter; all linear layers if
            empty.
    """

    rank: int
    alpha: float = 16.0
    targets: tuple[str, ...] = ()


def with_adapter(model: nn.Module, lora: Lora) -> Any:
    """Add a LoRA adapter to a model.

    Raises:
        InputError: a rank below 1, or no linear layer with such a name.
    """
    peft = need("peft")
    if lora.rank < 1:
        raise InputError(f"LoRA rank {lora.rank} must be at least 1")
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=list(lora.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        with known_to_peft():
            return peft.get_peft_model(model, settings)
    except ValueError as error:
        linear = {
            n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)
        }
        raise InputError(
            f"LoRA targets {', '.join(lora.targets) or 'all-linear'}: {first_line(error)}; this "
            f"model has {', '.join(sorted(linear))}"
        ) from None


@contextlib.contextmanager
def known_to_peft() -> Iterator[None]:
    """Within the block, peft does not warn about its own patterns for experts and GPT-2."""
    with warnings.catch_warnings():
        for pattern in (r".*(rank|alpha)_pattern keys did not match", "fan_in_fan_out is set to"):
            warnings.filterwarnings("ignore", message=pattern)
        yield


def first_line(error: Exception) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
