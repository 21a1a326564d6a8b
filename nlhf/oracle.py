"""The equilibrium to machine precision: Newton's method with continuation in tau."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from nlhf.checks import Tau, check_game, check_preferences
from nlhf.errors import InputError
from nlhf.linear import solve
from nlhf.regularised_game import exploitability

PRECISION = 1e-20
"""Exploitability that a solved game has at most, for tau up to 1."""


@dataclass
class _Batch:
    """The games still being solved, one a row; `pi` and `gain` = A pi belong to `logits`."""

    A: Tensor
    log_mu: Tensor
    support: Tensor
    tau: Tensor
    logits: Tensor
    pi: Tensor
    gain: Tensor
    target: Tensor
    row: Tensor

    def take(self, keep: Tensor) -> _Batch:
        return _Batch(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def at(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pi, A pi and the residual r at other logits."""
        pi = torch.softmax(logits.masked_fill(~self.support, -torch.inf), -1)
        gain = (self.A @ pi[..., None])[..., 0]
        return pi, gain, self.residual(logits, gain)

    def residual(self, logits: Tensor, gain: Tensor) -> Tensor:
        r = self.log_mu + gain / self.tau[:, None] - logits
        return r.masked_fill_(~self.support, 0.0)


@torch.no_grad()
def solve_equilibrium(
    P: Tensor, log_mu: Tensor, tau: Tau, *, factor: float = 0.5, max_iterations: int = 2000
) -> Tensor:
    """Solve log pi = log mu + P pi / tau + const for every game at once, in float64.

    With A = P - 1/2, the logits l solve r(l) = log mu + A softmax(l) / tau - l = 0. The Jacobian
    I - A (diag pi - pi pi^T) / tau has eigenvalues 1 +- i b: Newton's step always exists, and it
    descends in ||r||. tau comes down from 1 in factors, each solution the start of the next.

    Args:
        P: [..., K, K].
        log_mu: reference policies, broadcast against [..., K]; -inf leaves an action out.
        tau: > 0, broadcast against [...].
        factor: of the continuation, in (0, 1).
        max_iterations: Newton steps at most, over all stages.

    Returns:
        log pi*, [..., K], float64, on the device of P.

    Raises:
        InputError: see `check_game`.
        RuntimeError: a game was not solved; the message names it.

    Source: the equilibrium of Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    check_game(P, log_mu, tau)
    P, log_mu = P.double(), log_mu.to(P.device).double()
    taus = torch.as_tensor(tau, dtype=torch.float64, device=P.device)
    shape = torch.broadcast_shapes(P.shape[:-2], log_mu.shape[:-1], taus.shape)
    k = P.shape[-1]
    P = P.expand(*shape, k, k).reshape(-1, k, k)
    log_mu = log_mu.expand(*shape, k).reshape(-1, k)
    taus = taus.expand(shape).reshape(-1)
    support = torch.isfinite(log_mu)
    start = torch.where(support, log_mu, 0.0)
    result = torch.empty_like(start)
    A, pi = P - 0.5, log_mu.exp()
    gain, rows = (A @ pi[..., None])[..., 0], torch.arange(len(P), device=P.device)
    tau_now = taus.clamp_min(1.0)
    batch = _Batch(A, start, support, tau_now, start.clone(), pi, gain, taus, rows)
    for _ in range(max_iterations):
        size, arrived = _newton_step(batch)
        done = arrived & (batch.tau <= batch.target)
        result[batch.row[done]] = batch.logits[done]
        near = size < 1e-2
        batch.tau = torch.where(near, torch.maximum(batch.tau * factor, batch.target), batch.tau)
        if bool(done.any()):
            batch = batch.take(~done)
        if not len(batch.row):
            break
    result[batch.row] = batch.logits
    log_pi = torch.log_softmax(torch.where(support, result, -torch.inf), -1)
    worst = exploitability.unchecked(P, log_pi, log_mu, taus) / taus.clamp_min(1.0)
    if not bool((worst <= PRECISION).all()):
        bad = int(worst.nan_to_num(torch.inf).argmax())
        raise RuntimeError(
            f"game {bad} of {len(P)} was not solved: exploitability {float(worst[bad]):.2g} after "
            f"{max_iterations} steps; allow more, or a factor nearer 1"
        )
    return log_pi.reshape(*shape, k)


def _newton_step(b: _Batch) -> tuple[Tensor, Tensor]:
    """One damped step for every game; the size of the step taken, and whether it was the last."""
    residual = b.residual(b.logits, b.gain)
    scaled = b.pi / b.tau[:, None]
    matrix = b.A * -scaled[:, None]
    matrix.baddbmm_(b.gain[..., None], scaled[:, None])
    matrix.mul_(b.support[..., None])
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    step = solve(matrix, residual[..., None])[..., 0]
    before = torch.linalg.vector_norm(residual, dim=-1)
    length = torch.ones_like(before)
    last = (b.pi * step.square()).sum(-1) <= 1e-22
    logits = b.logits + step
    pi, gain, trial = b.at(logits)
    for _ in range(30):
        after = torch.linalg.vector_norm(trial, dim=-1)
        # at the rounding of r nothing descends any more
        rounding = 1e-12 * (1 + 1 / b.tau)
        short = (after > (1 - 0.25 * length) * before) & (before > rounding)
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
        logits = b.logits + length[:, None] * step
        pi, gain, trial = b.at(logits)
    b.logits, b.pi, b.gain = logits, pi, gain
    return step.abs().amax(-1), last


def unregularised_equilibrium(P: Tensor) -> Tensor:
    """The maximin policy of each game by linear programming: max v with pi^T (P - 1/2) >= v.

    Args:
        P: [..., K, K].

    Returns:
        log pi [..., K], float64, -inf for what is not played; one equilibrium where there are
        several.

    Raises:
        InputError: see `check_game`.
    """
    check_preferences(P)
    k = P.shape[-1]
    found = []
    for game in (P.double() - 0.5).reshape(-1, k, k).cpu().numpy():
        end = linprog(
            c=np.append(np.zeros(k), -1.0),
            A_ub=np.hstack([-game.T, np.ones((k, 1))]),
            b_ub=np.zeros(k),
            A_eq=np.append(np.ones(k), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * k + [(None, None)],
            method="highs",
        )
        if end.x is None:
            raise InputError(f"linear programming found no equilibrium: {end.message}")
        found.append(end.x[:k].clip(0))
    pi = torch.from_numpy(np.stack(found)).reshape(*P.shape[:-1]).to(P.device)
    return (pi / pi.sum(-1, keepdim=True)).log()
