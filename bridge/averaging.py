"""A running average of the parameters, which is often better than their last values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from bridge.errors import InputError


class Average:
    """avg <- d avg + (1 - d) theta after each step, with d = min(decay, (t + 1) / (t + 10)).

    The smaller decays of the first steps let the average forget the initial parameters.

    Source: Polyak and Juditsky 1992 (SIAM J. Control Optim. 30); the warm-up is that of
    tf.train.ExponentialMovingAverage.
    """

    def __init__(self, params: Mapping[str, Tensor], decay: float) -> None:
        """Begin with the current values of the parameters.

        Raises:
            InputError: decay is not in (0, 1).
        """
        if not 0 < decay < 1:
            raise InputError(f"decay={decay} of an average must lie in (0, 1)")
        self.params, self.decay, self.steps = dict(params), decay, 0
        self.values = {name: p.clone() for name, p in self.params.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after a step."""
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10))
        for name, value in self.values.items():
            value.lerp_(self.params[name], 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def assign(self) -> None:
        """Overwrite the parameters, in place, with their averages."""
        for name, value in self.values.items():
            self.params[name].copy_(value)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Replace the parameters by their averages within the block."""
        kept = {name: p.clone() for name, p in self.params.items()}
        self.assign()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.params[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Give the state for resuming; the tensors are the average's own, not copies."""
        return {"steps": self.steps, "values": dict(self.values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state_dict`; the tensors are copied.

        Raises:
            InputError: the state belongs to other parameters.
        """
        if state["values"].keys() != self.values.keys():
            raise InputError("the saved average is of other parameters")
        self.steps = int(state["steps"])
        for name, value in state["values"].items():
            self.values[name].copy_(value)
