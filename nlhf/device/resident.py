"""Run many Nash-MD steps in one launch, and test whether that is possible."""

# pyright: reportCallIssue=false
# Triton's launches take arguments that the kernels do not declare.

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from nlhf.algorithms import AbstractAlgorithm, NashMD, Problem, State

HELD_BYTES = 64 << 10
"""Largest number of game entries that one program keeps in registers over all steps."""
MAX_ACTIONS = 1024
"""Largest number of actions of a game that a program supports."""
BLOCK = 8192
"""Number of entries of a larger game that a program reads at a time."""


@cache
def lacks_triton() -> str | None:
    """Why no kernel can run here; None if one can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed: pip install 'bioplaus[gpu]'"
    return None


def unfit(method: AbstractAlgorithm, problem: Problem) -> str | None:
    """Why the kernel does not support a method on games [G, K, K]; None if it does."""
    if type(method) is not NashMD:
        return f"the kernel takes steps of nash-md, not of {method.name}"
    if problem.votes is not None:
        return "the kernel takes exact feedback, no votes"
    if problem.P.shape[-1] > MAX_ACTIONS:
        return f"games of {problem.P.shape[-1]} actions are larger than {MAX_ACTIONS}"
    if problem.P.ndim != 3 or problem.log_mu.shape != problem.P.shape[:2]:
        return "the kernel takes games [G, K, K] and a reference each, [G, K]"
    return None


def advance(
    method: NashMD, problem: Problem, state: State, steps: int, *, per_program: int | None = None
) -> tuple[State, State]:
    """Take `steps` steps of Nash-MD in one launch, without waiting for the device.

    Games that fit in a program's registers are read once, see `held`. Larger ones are read once per
    step, in columns.

    Args:
        method: the method.
        problem: games [G, K, K], references [G, K], tau [..., G].
        state: policies [..., G, K]; not modified.
        steps: number of steps, >= 1.
        per_program: policies per program; None means as many as fit.

    Returns:
        The states before and after the last step.
    """
    from nlhf.device.nash_steps import nash_steps

    P = problem.P.contiguous()
    games, actions = P.shape[0], P.shape[-1]
    after = state.log_pi.contiguous().clone()
    before = torch.empty_like(after)
    tau = problem.tau.expand(after.shape[:-1]).contiguous()
    rows = tau.numel()
    rates, by_tau = _rates(method, state.step, steps, P)
    weights = rates if method.mixture is None else _values(method.mixture, state.step, steps, P)
    room = _room(actions)
    kept = held(problem)
    block = per_program or (HELD_BYTES // (room**2 * P.itemsize) if kept else 1)
    block = 1 << (min(block, rows).bit_length() - 1)
    scratch = P.new_empty(0 if kept else rows * room)
    nash_steps[(-(-rows // block),)](
        after,
        before,
        P,
        problem.log_mu.contiguous(),
        tau,
        rates,
        weights,
        scratch,
        rows,
        games,
        actions,
        steps,
        BY_TAU=by_tau,
        MIXES=method.mixture is None,
        HELD=kept,
        BM=block,
        K=room,
        BK=min(room, max(8, BLOCK // room)),
        num_warps=8,
    )
    done = state.step + steps
    return State(before, done - 1), State(after, done)


def held(problem: Problem) -> bool:
    """Whether a program can hold a game over all steps: 128 actions in float32, 64 in float64."""
    return _room(problem.P.shape[-1]) ** 2 * problem.P.itemsize <= HELD_BYTES


def _room(actions: int) -> int:
    return max(16, 1 << (actions - 1).bit_length())


def _rates(method: NashMD, start: int, steps: int, like: Tensor) -> tuple[Tensor, bool]:
    """eta of each step, or eta tau for the theorem's rate; see `algorithms.base.rate_at`."""
    if method.eta is not None:
        return _values(method.eta, start, steps, like), False
    step = torch.arange(start, start + steps, device=like.device)
    return 2.0 / (step.to(like.dtype) + 2), True


def _values(given: object, start: int, steps: int, like: Tensor) -> Tensor:
    values = [given(t) if callable(given) else given for t in range(start, start + steps)]
    return torch.tensor(values, dtype=like.dtype).to(like.device)
