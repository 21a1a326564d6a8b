"""Anderson mixing: the next state from a least-squares combination of the last few."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.linear import solve_ex
from bioplaus.solvers.base import AbstractDynamics
from bioplaus.solvers.sweeps import SweepCarry, Sweeps


@dataclass
class _History(SweepCarry):
    states: Tensor | None = None
    forces: Tensor | None = None
    count: int = 0

    def take(self, rows: Tensor) -> _History:
        states = None if self.states is None else self.states[rows]
        forces = None if self.forces is None else self.forces[rows]
        return _History(
            self.force[rows],
            self.fresh,
            steps=self.steps,
            swept=self.swept,
            states=states,
            forces=forces,
            count=self.count,
        )


@dataclass(frozen=True)
class Anderson(Sweeps):
    """s <- sum_i alpha_i (s_i + F(s_i)), alpha = argmin ||sum_i alpha_i F(s_i)||, sum alpha = 1.

    The mixing acts on sweeps: as the other layers are settled given the first group, only that
    group is the state s of the formula. Each row has its own alpha over its last `memory` states.

    Attributes:
        memory: number of earlier states that are mixed, >= 1.

    Source: Walker and Ni 2011 (SIAM J. Numer. Anal. 49), equation 2.1.
    """

    of_loops = ("memory",)
    memory: int = 3

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise InputError(f"memory={self.memory} must be at least 1 earlier state")

    def init(self, dynamics: AbstractDynamics, s: Tensor) -> _History:
        shape = (s.shape[0], self.memory, s.shape[1])
        return _History(torch.empty_like(s), states=s.new_zeros(shape), forces=s.new_zeros(shape))

    def settle_first(
        self, dynamics: AbstractDynamics, s: Tensor, group: tuple[int, ...], carry: SweepCarry
    ) -> None:
        assert isinstance(carry, _History)
        assert carry.states is not None
        assert carry.forces is not None
        force = self.measure(dynamics, s, carry)
        slot = carry.count % self.memory
        carry.states[:, slot], carry.forces[:, slot] = s, force
        carry.count += 1
        used = min(carry.count, self.memory)
        states, forces = carry.states[:, :used], carry.forces[:, :used]
        mixed = torch.bmm(_weights(forces, slot), states + forces)[:, 0]
        dynamics.shift(s, group, mixed.sub_(s))


def _weights(forces: Tensor, newest: int) -> Tensor:
    """alpha [B, 1, m] from the Gram matrix F_i^H F_j of the forces [B, m, n]."""
    gram = forces.conj() @ forces.mT
    m = gram.shape[-1]
    real = torch.finfo(forces.real.dtype)
    scale = gram.diagonal(dim1=1, dim2=2).real.mean(-1).clamp_min(real.tiny)
    eye = torch.eye(m, dtype=gram.dtype, device=gram.device)
    gram = gram / scale[:, None, None] + 10 * real.eps * eye
    ones = gram.new_ones(gram.shape[0], m, 1)
    solved, info = solve_ex(gram, ones)
    # a singular system (all forces zero or non-finite) falls back to the newest state only
    alpha = solved / solved.sum(1, keepdim=True)
    plain = torch.zeros_like(alpha)
    plain[:, newest] = 1.0
    bad = (info != 0) | ~torch.isfinite(alpha).all(1)[:, 0]
    return torch.where(bad[:, None, None], plain, alpha).mT
