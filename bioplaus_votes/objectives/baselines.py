"""What is taken off a vote's signal before it is heard: less noise, the same mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bioplaus.fields import VectorField
from bioplaus_votes.rules import leave_one_out

BASELINES = ("none", "leave-one-out", "learned")
RATE = 0.05
"""Of the learnt one, as a share of the error that a step takes away."""


class Baseline:
    """A baseline b of the signals of a row.

    - `none`: 0;
    - `leave-one-out`: the mean of the row's other signals;
    - `learned`: v(s) = <w, s> + v0 from the free state, learnt by the local rule
      dw ~ (signal - v) s / (1 + |s|^2); of a step, v is what it was before that step's votes.
    """

    def __init__(self, name: str, field: VectorField) -> None:
        """Begin with v = 0."""
        self.name = name
        self.w = torch.zeros(field.n + 1, dtype=field.dtype, device=field.device)

    def __call__(self, s: Tensor, signal: Tensor) -> Tensor:
        """b, [B, N] or [B, 1]; a learnt one learns from these signals.

        Args:
            s: free states, [B, n].
            signal: [B, N].
        """
        if self.name == "none":
            return torch.zeros_like(signal[:, :1])
        if self.name == "leave-one-out":
            return leave_one_out(signal)
        seen = torch.cat((s, torch.ones_like(s[:, :1])), 1)
        v = seen @ self.w
        error = signal.mean(-1) - v
        weight = error / seen.square().sum(-1)
        self.w += RATE * (weight[:, None] * seen).sum(0) / len(s) ** 0.5
        return v[:, None]

    def state_dict(self) -> dict[str, Any]:
        """What it has learnt."""
        return {"w": self.w}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.w = state["w"].to(self.w).clone()
