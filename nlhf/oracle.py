"""The equilibrium to machine precision: Newton's method with continuation in tau."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nlhf.checks import Tau, check_game, check_preferences, common_shape
from nlhf.errors import InputError
from nlhf.newton import HALVINGS, NEAR, Batch, masked_logits, start
from nlhf.recorder import AbstractRecorder, CudaRecorder
from nlhf.regularised_game import exploitability

PRECISION = 1e-20
"""Largest exploitability of a solved game, for tau up to 1."""


def solve_equilibrium(
    P: Tensor,
    log_mu: Tensor,
    tau: Tau,
    *,
    factor: float = 0.5,
    max_iterations: int = 2000,
    throw: bool = True,
) -> Tensor:
    """Solve log pi = log mu + P pi / tau + const for every game at once, in float64.

    With A = P - 1/2 and h = tau log mu, the logits l solve r(l) = (h + A softmax(l)) / t - l = 0
    at t = tau. The Jacobian I - A (diag pi - pi pi^T) / t has eigenvalues 1 +- i b, so Newton's
    step always exists and reduces ||r||. The continuation starts with t at the size of the payoffs
    A_ij + h_i - h_j, where the solution is near uniform, and lowers t by `factor`. Each solution
    is the starting point of the next stage. h does not change with t: the solver treats it as
    part of the payoffs, so references of any range work.

    On a GPU the steps are recorded as a CUDA graph, see `nlhf.newton.masked_logits`.

    Args:
        P: [..., K, K].
        log_mu: reference policies, broadcast against [..., K]; -inf excludes an action.
        tau: > 0, broadcast against [...].
        factor: continuation factor, in (0, 1).
        max_iterations: maximum number of Newton steps, over all stages.
        throw: whether an unsolved game is an error. Otherwise its row is the last iterate, or
            NaN: check its `certificate`.

    Returns:
        log pi*, [..., K], float64, on the device of P.

    Raises:
        InputError: see `check_game`; or the shapes do not broadcast.
        RuntimeError: a game could not be solved; the message names it.

    Source: the equilibrium of Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    return solve_and_tell(
        P, log_mu, tau, factor=factor, max_iterations=max_iterations, throw=throw
    )[0]


@torch.no_grad()
def solve_and_tell(
    P: Tensor,
    log_mu: Tensor,
    tau: Tau,
    *,
    factor: float = 0.5,
    max_iterations: int = 2000,
    throw: bool = True,
    recorder: AbstractRecorder | None = None,
) -> tuple[Tensor, str]:
    """Solve games as `solve_equilibrium` does, and tell how the steps ran.

    Args:
        P, log_mu, tau, factor, max_iterations, throw: see `solve_equilibrium`.
        recorder: records a step; by default CUDA graphs on a GPU, and nothing on a CPU.

    Returns:
        log pi*, and "plain torch", "CUDA graph" or "masked steps": a GPU's steps that could not be
        recorded.

    Raises:
        InputError, RuntimeError: see `solve_equilibrium`.
    """
    check_game(P, log_mu, tau)
    P, log_mu = P.double(), log_mu.to(P.device).double()
    taus = torch.as_tensor(tau, dtype=torch.float64, device=P.device)
    shape = common_shape({"P": P.shape[:-2], "log_mu": log_mu.shape[:-1], "tau": taus.shape})
    k = P.shape[-1]
    # make P + P^T = 1 exact: float32 games are solved in float64
    P = (0.5 * (P + 1 - P.mT)).expand(*shape, k, k).reshape(-1, k, k)
    log_mu = log_mu.expand(*shape, k).reshape(-1, k)
    taus = taus.expand(shape).reshape(-1)
    batch, how = start(P - 0.5, log_mu, taus), "plain torch"
    if len(P) and (recorder is not None or P.is_cuda):
        given = recorder or CudaRecorder()
        logits, how = masked_logits(batch, factor, max_iterations, given)
    else:
        logits = _solve(batch, factor, max_iterations)
    log_pi = torch.log_softmax(torch.where(torch.isfinite(log_mu), logits, -torch.inf), -1)
    worst = exploitability.unchecked(P, log_pi, log_mu, taus) / taus.clamp_min(1.0)
    if throw and not bool((worst <= PRECISION).all()):
        bad = int(worst.nan_to_num(torch.inf).argmax())
        raise RuntimeError(
            f"game {bad} of {len(P)} was not solved: exploitability {float(worst[bad]):.2g} after "
            f"{max_iterations} steps; allow more, or a factor nearer 1"
        )
    return log_pi.reshape(*shape, k), how


def _solve(batch: Batch, factor: float, max_iterations: int) -> Tensor:
    """The logits of every game, [G, K]; those of actions outside the reference are arbitrary."""
    result = batch.logits.clone()
    for _ in range(max_iterations):
        if not len(batch.row):
            break
        size, arrived = _newton_step(batch)
        done = (arrived & (batch.tau <= batch.target)) | ~torch.isfinite(size)
        result[batch.row[done]] = batch.logits[done]
        batch.tau = batch.lowered(size < NEAR, factor)
        if bool(done.any()):
            batch = batch.take(~done)
    result[batch.row] = batch.logits
    return result


def _newton_step(b: Batch) -> tuple[Tensor, Tensor]:
    """Take one damped step in every game; return its size and whether it was the last."""
    before, step = b.direction()
    length = torch.ones_like(before)
    last = b.arrived(step)
    logits = b.logits + step
    pi, gain, trial = b.at(logits)
    for _ in range(HALVINGS):
        after = torch.linalg.vector_norm(trial, dim=-1)
        short = b.too_long(before, after, length)
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
        log pi [..., K], float64, -inf for actions that are not played. Where there are several
        equilibria, one of them.

    Raises:
        InputError: see `check_game`.
    """
    from scipy.optimize import linprog  # slow to import (0.5 s) and seldom needed

    check_preferences(P)
    k = P.shape[-1]
    found = []
    A = (0.5 * (P.double() - P.double().mT)).reshape(-1, k, k)
    # the solver's tolerances are absolute: rescale, or weak preferences would count as ties
    A = A / A.abs().amax((-2, -1), keepdim=True).clamp_min(1e-300)
    for game in A.cpu().numpy():
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
