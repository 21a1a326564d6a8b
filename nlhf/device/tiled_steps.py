"""A kernel for many Nash-MD steps of one larger game, which stays in registers as tiles.

Triton's blocks have sizes that are powers of two. A game of 224 actions in one block of 256 x 256
would need 256 KiB, all registers of a multiprocessor. The kernel therefore splits the rows into up
to three blocks of 128, 64 and 32, and the columns into tiles of 16, so that a game is padded only
to a multiple of 32. In float32, 224 x 224 numbers are 196 KiB: with 256 threads, 196 of the 255
registers that a thread can have. Policies take few more, because they pass from columns to rows
through memory.
"""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportGeneralTypeIssues=false
# Within a kernel every value is a device block, which Triton's annotations do not express.

from __future__ import annotations

import triton
import triton.language as tl

from nlhf.device.nash_steps import mixture_of, normalised

WIDTH = tl.constexpr(16)


@triton.jit
def _tiles(P, actions, START: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr):
    """Rows START to START + ROWS of a game as `TILES` tiles [ROWS, WIDTH], zero outside."""
    tiles = ()
    for j in tl.static_range(TILES if ROWS else 0):
        row = START + tl.arange(0, ROWS)[:, None]
        column = j * WIDTH + tl.arange(0, WIDTH)[None, :]
        mask = (row < actions) & (column < actions)
        tiles = tiles + (tl.load(P + row * actions + column, mask, 0.0),)  # noqa: RUF005
    return tiles


@triton.jit
def _gain(tiles, policy, gain, START: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr):
    """Write the product of these rows and the policy to memory; one sum over lanes at the end."""
    if ROWS:
        column = tl.arange(0, WIDTH)
        total = tiles[0] * tl.load(policy + column)[None, :]
        for j in tl.static_range(1, TILES):
            total += tiles[j] * tl.load(policy + j * WIDTH + column)[None, :]
        tl.store(gain + START + tl.arange(0, ROWS), tl.sum(total, 1))


@triton.jit(do_not_specialize=["actions"])
def tiled_steps(
    log_pi,
    before,
    P,
    log_mu,
    tau,
    rates,
    weights,
    scratch,
    games,
    actions,
    steps,
    BY_TAU: tl.constexpr,
    MIXES: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    THIRD: tl.constexpr,
    TILES: tl.constexpr,
    K: tl.constexpr,
):
    """The steps of `nash_steps`, one program per policy.

    Loads wider than one number would leave too few lanes for the block of 32 rows, which would
    then be stored twice. The kernel is therefore not specialized to a divisible number of actions.

    Args:
        log_pi: policies, [rows, actions], updated in place.
        before: output, the policies before the last step.
        P, log_mu: games [games, actions, actions] and references [games, actions].
        tau: tau of each policy, [rows].
        rates, weights: see `nash_steps`.
        scratch: [rows, 2, K]: policies as columns, and their gains as rows.
        FIRST, SECOND, THIRD: rows of the blocks; 0 if there is none.
        TILES: tiles of each block.
    """
    row = tl.program_id(0) + tl.arange(0, 1)
    game = tl.program_id(0) % games
    action = tl.arange(0, K)[None, :]
    inside = action < actions
    at = row[:, None] * actions + action
    log_p = tl.load(log_pi + at, inside, -float("inf"))
    reference = tl.load(log_mu + game * actions + action, inside, -float("inf"))
    own_tau = tl.load(tau + row)
    P += game.to(tl.int64) * actions * actions
    first = _tiles(P, actions, 0, FIRST, TILES)
    second = _tiles(P, actions, FIRST, SECOND, TILES)
    third = _tiles(P, actions, FIRST + SECOND, THIRD, TILES)
    policy = scratch + tl.program_id(0) * 2 * K
    gain = policy + K
    last = log_p
    for step in range(steps):
        mixture, eta = mixture_of(log_p, reference, own_tau, rates, weights, step, BY_TAU, MIXES)
        tl.store(policy + action, tl.exp(mixture))
        tl.debug_barrier()
        _gain(first, policy, gain, 0, FIRST, TILES)
        _gain(second, policy, gain, FIRST, SECOND, TILES)
        _gain(third, policy, gain, FIRST + SECOND, THIRD, TILES)
        tl.debug_barrier()
        last = log_p
        log_p = normalised(mixture + eta[:, None] * tl.load(gain + action, inside, 0.0))
    tl.store(log_pi + at, log_p, inside)
    tl.store(before + at, last, inside)
