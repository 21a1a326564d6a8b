"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

ALIASES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "optimizer": "method",
    "optim": "method",
    "lr_schedule": "schedule",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "warmup": "warmup_steps",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "grad_clip": "clip_norm",
    "max_grad_norm": "clip_norm",
    "nonlinearity": "activation",
    "kl_coef": "tau",
}
"""Names that other programs use for keys, by the last part of a key."""


def nearest_key(key: str, keys: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Find the key that is meant by one that does not exist; None if none is near."""
    leaf = key.rpartition(".")[2]
    by_leaf = {k.rpartition(".")[2]: k for k in reversed(keys)}
    known = ALIASES.get(leaf, leaf)
    siblings = [k for k in keys if k == f"{key.rpartition('.')[0]}.{known}"]
    if siblings or known in by_leaf:
        return siblings[0] if siblings else by_leaf[known]
    close = difflib.get_close_matches(key, keys, 1, cutoff)
    close = close or difflib.get_close_matches(leaf, by_leaf, 1, cutoff)
    return by_leaf.get(close[0], close[0]) if close else None
