"""Newton's method for many games at once; see `nlhf.oracle.solve_equilibrium` for the formula."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.linear import solve
from nlhf.recorder import AbstractRecorder

NEAR = 1e-2
"""A Newton step shorter than this, in its largest logit, ends a stage of the continuation."""
ARRIVED = 1e-22
"""At tau itself, the step with sum_y pi step^2 up to this is the last one."""
HALVINGS = 30
"""A step is halved at most this many times."""
TRIALS = 4
"""Number of lengths that a masked step tries at once."""
LOOKS = 2
"""Masked steps between two counts; the host learns the result of a count one look late."""


@dataclass
class Batch:
    """The games being solved, one per row; `pi` and `gain` = A pi follow from `logits`."""

    A: Tensor
    bonus: Tensor
    support: Tensor
    tau: Tensor
    logits: Tensor
    pi: Tensor
    gain: Tensor
    target: Tensor
    row: Tensor

    def take(self, keep: Tensor) -> Batch:
        """The games that a mask or an index keeps."""
        return Batch(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def at(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute pi, A pi and the residual r at the given logits."""
        pi = torch.softmax(logits.masked_fill(~self.support, -torch.inf), -1)
        gain = (self.A @ pi[..., None])[..., 0]
        return pi, gain, self.residual(logits, gain)

    def residual(self, logits: Tensor, gain: Tensor) -> Tensor:
        """r [G, K], zero for actions outside the reference."""
        r = (self.bonus + gain) / self.tau[:, None] - logits
        return r.masked_fill_(~self.support, 0.0)

    def direction(self) -> tuple[Tensor, Tensor]:
        """||r|| [G] and Newton's step [G, K]."""
        residual = self.residual(self.logits, self.gain)
        scaled = self.pi / self.tau[:, None]
        matrix = self.A * -scaled[:, None]
        matrix.baddbmm_(self.gain[..., None], scaled[:, None])
        matrix.mul_(self.support[..., None])
        matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        step = solve(matrix, residual[..., None])[..., 0]
        return torch.linalg.vector_norm(residual, dim=-1), step

    def arrived(self, step: Tensor) -> Tensor:
        """Whether a step is so short that no other has to follow at this temperature, [G]."""
        return (self.pi * step.square()).sum(-1) <= ARRIVED

    def too_long(self, before: Tensor, after: Tensor, length: Tensor) -> Tensor:
        """Whether a step of `length` reduces ||r|| too little; [G, ...] like `after`."""
        # at the rounding error of r, no step reduces it further
        rounding = 1e-12 * (1 + 1 / self.tau)
        for _ in range(after.ndim - before.ndim):
            before, rounding = before[..., None], rounding[..., None]
        return (after > (1 - 0.25 * length) * before) & (before > rounding)

    def lowered(self, near: Tensor, factor: float) -> Tensor:
        """The temperatures of the next step: those of games near a solution fall by `factor`."""
        return torch.where(near, torch.maximum(self.tau * factor, self.target), self.tau)


def start(A: Tensor, log_mu: Tensor, taus: Tensor) -> Batch:
    """All games where the continuation begins."""
    support = torch.isfinite(log_mu)
    bonus = torch.where(support, log_mu, 0.0) * taus[:, None]
    first = torch.maximum(taus, 1.0 - bonus.amin(-1))
    logits = bonus / first[:, None]
    rows = torch.arange(len(A), device=A.device)
    batch = Batch(A, bonus, support, first, logits, logits, logits, taus, rows)
    batch.pi, batch.gain, _ = batch.at(logits)
    return batch


class MaskedSearch:
    """The search of `nlhf.oracle` without waiting for the device.

    All games continue to be computed, and a mask freezes those that have ended. A step tries
    `TRIALS` lengths in one product. If none will do, the next step of that game tries the next
    shorter ones. Everything that changes is a tensor with a fixed address, so that a recorded step
    can be replayed.

    Attributes:
        batch: the games; `batch.logits` holds the results.
        waiting: number of games that go on, int64 [1].
    """

    def __init__(self, batch: Batch, factor: float, max_iterations: int) -> None:
        """Start at a batch, which is changed in place."""
        batch.tau, batch.logits = batch.tau.clone(), batch.logits.clone()
        self.batch, self._factor, self._most = batch, factor, max_iterations
        self._active = torch.full_like(batch.target, max_iterations > 0, dtype=torch.bool)
        self._taken = torch.zeros_like(batch.row)
        self._halvings = torch.zeros_like(batch.row)
        self._tries = torch.arange(TRIALS, device=batch.row.device)
        self.waiting = self._active.sum().reshape(1)

    def step(self) -> None:
        """Take a step in every game that goes on, or try shorter ones."""
        b = self.batch
        before, step = b.direction()
        last = b.arrived(step)
        length = 0.5 ** (self._halvings[:, None] + self._tries).to(before.dtype)
        logits = b.logits[:, None] + length[..., None] * step[:, None]
        pi = torch.softmax(logits.masked_fill(~b.support[:, None], -torch.inf), -1)
        gain = (b.A @ pi.mT).mT
        r = (b.bonus[:, None] + gain) / b.tau[:, None, None] - logits
        after = torch.linalg.vector_norm(r.masked_fill(~b.support[:, None], 0.0), dim=-1)
        short = b.too_long(before, after, length)
        # the first length that will do, or the shortest one
        first = short.long().cumprod(-1).sum(-1).minimum(HALVINGS - self._halvings)
        moves = self._active & (first < TRIALS)
        at = first.clamp_max(TRIALS - 1)[:, None, None].expand(-1, 1, b.A.shape[-1])
        for own, tried in ((b.logits, logits), (b.pi, pi), (b.gain, gain)):
            own.copy_(torch.where(moves[:, None], tried.gather(1, at)[:, 0], own))
        self._halvings.copy_(torch.where(self._active & ~moves, self._halvings + TRIALS, 0))
        size = step.abs().amax(-1)
        done = moves & ((last & (b.tau <= b.target)) | ~torch.isfinite(size))
        b.tau.copy_(b.lowered(moves & (size < NEAR), self._factor))
        self._taken.add_(moves)
        self._active &= ~done & (self._taken < self._most)
        self.waiting.copy_(self._active.sum().reshape(1))


def masked_logits(
    batch: Batch, factor: float, max_iterations: int, recorder: AbstractRecorder
) -> tuple[Tensor, str]:
    """Solve all games by masked steps, recorded if possible.

    The host waits only for the number of games that go on, one look late.

    Args:
        batch: the games, see `start`; changed in place.
        factor, max_iterations: see `nlhf.oracle.solve_equilibrium`.
        recorder: records a step.

    Returns:
        The logits [G, K], and how the steps ran: "CUDA graph" or "masked steps".
    """
    search = MaskedSearch(batch, factor, max_iterations)
    step, name = search.step, "masked steps"
    for _ in range(LOOKS):
        step()
    with contextlib.suppress(RuntimeError):  # some libraries' LU cannot be recorded
        step, name = recorder.record(search.step), "CUDA graph"
    while True:
        read_waiting = recorder.fetch(search.waiting)
        for _ in range(LOOKS):
            step()
        if not read_waiting()[0]:
            return search.batch.logits, name
