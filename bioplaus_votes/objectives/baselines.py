"""Baselines subtracted from a vote's signal: less noise, the same mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bioplaus.fields import VectorField
from bioplaus_votes.rules import leave_one_out

BASELINES = ("none", "leave-one-out", "learned")
RATE = 0.05
"""Learning rate of the learned baseline: the share of the error that one step removes."""


class Baseline:
    """A baseline b for the signals of a row.

    - `none`: 0;
    - `leave-one-out`: the mean of the row's other signals;
    - `learned`: v(s) = <w, s> + v0 from the free state, learned by the local rule
      dw ~ (signal - v) s / (1 + |s|^2); each step uses v from before that step's votes.
    """

    def __init__(self, name: str, field: VectorField) -> None:
        """Start with v = 0."""
        self.name = name
        self.w = torch.zeros(field.n + 1, dtype=field.dtype, device=field.device)

    def __call__(self, s: Tensor, signal: Tensor) -> Tensor:
        """b, [B, N] or [B, 1]; a learned baseline also learns from these signals.

        Args:
            s: free states, [B, n].
            signal: [B, N].
        """
        if self.name == "none":
            return torch.zeros_like(signal[:, :1])
        if self.name == "leave-one-out":
            return leave_one_out(signal)
        features = torch.cat((s, torch.ones_like(s[:, :1])), 1)
        v = features @ self.w
        error = signal.mean(-1) - v
        weight = error / features.square().sum(-1)
        self.w += RATE * (weight[:, None] * features).sum(0) / len(s) ** 0.5
        return v[:, None]

    def state_dict(self) -> dict[str, Any]:
        """The learned weights."""
        return {"w": self.w}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the learned weights."""
        self.w = state["w"].to(self.w).clone()
