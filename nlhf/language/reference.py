"""Motion of the reference: fixed, or following the policy in jumps or as a moving average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.policy import Policy

KINDS = ("fixed", "ema")


@dataclass(frozen=True)
class Reference:
    """How mu moves.

    Attributes:
        kind: "fixed", except for jumps every `every` steps; or "ema": mu <- (1 - r) mu + r pi, in
            parameters, after every step.
        every: number of steps after which mu becomes pi; 0 means never.
        rate: r of the moving average, in (0, 1].
    """

    kind: str = "fixed"
    every: int = 0
    rate: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"reference={self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if self.every < 0:
            raise InputError(f"reference_every={self.every} must be at least 1 step")
        if not 0 < self.rate <= 1:
            raise InputError(f"reference_rate={self.rate} must lie in (0, 1]")
        if self.kind == "ema" and self.every:
            raise InputError(
                f"reference=ema moves after every step; leave out reference_every={self.every}"
            )

    @property
    def moves(self) -> bool:
        """Whether mu changes during the run."""
        return self.kind == "ema" or self.every > 0

    def check(self, policy: Policy, processes: int) -> None:
        """Raise if the policy's reference cannot move.

        Raises:
            InputError: the reference is the policy's own base, with its adapter off.
        """
        if self.moves and policy.reference is None:
            raise InputError(
                f"the reference of {policy.name} is its base with the adapter off, which cannot "
                "move; merge the adapter, or load the policy with a reference of its own"
            )
        if self.moves and processes > 1 and policy.forward_model is None:
            raise InputError("a reference that moves is for shard=ddp; shards cannot follow")

    @torch.no_grad()
    def after(self, policy: Policy, step: int) -> None:
        """Update mu after `step` steps."""
        jumps = self.every > 0 and step % self.every == 0
        if self.kind == "ema" or jumps:
            own = policy.trainable()
            for name, parameter in _counterparts(policy, own).items():
                parameter.lerp_(own[name].to(parameter), 1.0 if jumps else self.rate)

    def state(self, policy: Policy, step: int) -> dict[str, Tensor]:
        """The reference's parameters, if they have moved."""
        moved = self.kind == "ema" or (self.every > 0 and step >= self.every)
        return _counterparts(policy, policy.trainable()) if moved else {}

    @torch.no_grad()
    def load(self, policy: Policy, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        if state:
            for name, parameter in _counterparts(policy, policy.trainable()).items():
                parameter.copy_(state[name])


def _counterparts(policy: Policy, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's parameters with the names of the policy's trainable ones."""
    assert policy.reference is not None
    return {n: p.detach() for n, p in policy.reference.named_parameters() if n in own}


FIXED = Reference()
"""A fixed reference."""
