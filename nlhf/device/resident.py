"""Run many Nash-MD steps in one launch, and test whether that is possible."""

# pyright: reportCallIssue=false
# Triton's launches take arguments that the kernels do not declare.

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from nlhf.algorithms import AbstractAlgorithm, NashMD, Problem, State

SMALL = 64
"""Games of up to this many actions stay in registers, several of them in a program."""
SMALL_BYTES = 64 << 10
"""Bytes of small games that one program keeps in registers over all steps."""
TILED_BYTES = 200 << 10
"""Bytes of a larger game that one program keeps in registers as tiles, see `tiled_steps`."""
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
    P = problem.P.contiguous()
    after = state.log_pi.contiguous().clone()
    before = torch.empty_like(after)
    tau = problem.tau.expand(after.shape[:-1]).contiguous()
    rates, by_tau = _rates(method, state.step, steps, P)
    weights = rates if method.mixture is None else _values(method.mixture, state.step, steps, P)
    tensors = (after, before, P, problem.log_mu.contiguous(), tau, rates, weights)
    rule = {"BY_TAU": by_tau, "MIXES": method.mixture is None}
    if held(problem) and P.shape[-1] > SMALL:
        _launch_tiled(tensors, steps, rule)
    else:
        _launch(tensors, steps, rule, held(problem), per_program)
    done = state.step + steps
    return State(before, done - 1), State(after, done)


def _launch(
    tensors: tuple[Tensor, ...],
    steps: int,
    rule: dict[str, bool],
    kept: bool,
    per_program: int | None,
) -> None:
    """Launch the kernel of small games, or of games that are read at every step."""
    from nlhf.device.nash_steps import nash_steps

    P, rows = tensors[2], tensors[4].numel()
    games, actions = P.shape[:2]
    room = _room(actions)
    block = per_program or (SMALL_BYTES // (room**2 * P.itemsize) if kept else 1)
    block = 1 << (min(block, rows).bit_length() - 1)
    nash_steps[(-(-rows // block),)](
        *tensors,
        P.new_empty(0 if kept else rows * room),
        rows,
        games,
        actions,
        steps,
        **rule,
        HELD=kept,
        BM=block,
        K=room,
        BK=min(room, max(8, BLOCK // room)),
        num_warps=8,
    )


def _launch_tiled(tensors: tuple[Tensor, ...], steps: int, rule: dict[str, bool]) -> None:
    """Launch the kernel that holds one larger game per program."""
    from nlhf.device.tiled_steps import WIDTH, tiled_steps

    P, rows = tensors[2], tensors[4].numel()
    games, actions = P.shape[:2]
    first, second, third = _blocks(actions)
    tiled_steps[(rows,)](
        *tensors,
        P.new_empty(rows * 2 * _room(actions)),
        games,
        actions,
        steps,
        **rule,
        FIRST=first,
        SECOND=second,
        THIRD=third,
        TILES=-(-actions // WIDTH.value),
        K=_room(actions),
        num_warps=8,
    )


def held(problem: Problem) -> bool:
    """Whether a program can hold a game over all steps: 224 actions in float32, 160 in float64."""
    actions = problem.P.shape[-1]
    return actions <= SMALL or sum(_blocks(actions)) ** 2 * problem.P.itemsize <= TILED_BYTES


def _blocks(actions: int) -> tuple[int, int, int]:
    """Split the rows of a larger game into blocks of 128, 64 and 32; 0 where there is none."""
    padded = -(-actions // 32) * 32
    sizes = [size for size in (1 << k for k in range(padded.bit_length(), 4, -1)) if padded & size]
    first, second, third = (*sizes, 0, 0, 0)[:3]
    return first, second, third


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
