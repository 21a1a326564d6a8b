"""A kernel for many Nash-MD steps: each game is read once for all steps."""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false
# Within a kernel every value is a device block, which Triton's annotations do not express.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normalised(logits):
    """log softmax of each row."""
    shifted = logits - tl.max(logits, 1)[:, None]
    return shifted - tl.log(tl.sum(tl.exp(shifted), 1))[:, None]


@triton.jit
def mixture_of(
    log_p,
    reference,
    own_tau,
    rates,
    weights,
    step,
    BY_TAU: tl.constexpr,
    MIXES: tl.constexpr,
):
    """The mixture of a step, as log-probabilities [rows, K], and its rate, [rows]."""
    eta = tl.load(rates + step) + own_tau * 0.0
    if BY_TAU:
        eta = eta / own_tau
    if MIXES:
        w = eta * own_tau
    else:
        w = tl.load(weights + step) + own_tau * 0.0
    own = (1 - w)[:, None] * tl.where((w < 1)[:, None], log_p, 0.0)
    other = w[:, None] * tl.where((w > 0)[:, None], reference, 0.0)
    return normalised(own + other), eta


@triton.jit
def _gain(P, scratch, policy, game, row, actions, K: tl.constexpr, BK: tl.constexpr):
    """The product P policy of one game, BK columns at a time; the policy goes through memory."""
    action = tl.arange(0, K)
    tl.store(scratch + row[:, None] * K + action[None, :], policy)
    tl.debug_barrier()
    total = policy * 0.0
    for k in range(0, actions, BK):
        other = k + tl.arange(0, BK)
        mask = (action < actions)[:, None] & (other < actions)[None, :]
        at = game[:, None, None] * actions * actions + action[None, :, None] * actions
        block = tl.load(P + at + other[None, None, :], mask[None, :, :], 0.0)
        part = tl.load(scratch + row[:, None] * K + other[None, :], (other < actions)[None, :], 0.0)
        total += tl.sum(block * part[:, None, :], 2)
    tl.debug_barrier()
    return total


@triton.jit
def nash_steps(
    log_pi,
    before,
    P,
    log_mu,
    tau,
    rates,
    weights,
    scratch,
    rows,
    games,
    actions,
    steps,
    BY_TAU: tl.constexpr,
    MIXES: tl.constexpr,
    HELD: tl.constexpr,
    BM: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
):
    """log mix = (1 - w) log pi + w log mu, then log pi <- log mix + eta P mix, both normalised.

    One program handles `BM` policies; policy r plays game r mod `games`.

    Args:
        log_pi: policies, [rows, actions], updated in place.
        before: output, the policies before the last step.
        P, log_mu: games [games, actions, actions] and references [games, actions].
        tau: tau of each policy, [rows].
        rates: eta of each step, [steps]; eta tau if BY_TAU.
        weights: w of each step, [steps]; unused if MIXES, where w = eta tau.
        scratch: [rows, K], used if the games are not HELD.
        HELD: whether games stay in registers over all steps.
    """
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    action = tl.arange(0, K)
    inside = (row < rows)[:, None] & (action < actions)[None, :]
    game = tl.where(row < rows, row % games, 0)
    at = row[:, None] * actions + action[None, :]
    # pad with uniform policies and with actions of probability zero
    absent = tl.where((row < rows)[:, None] & (action >= actions)[None, :], -float("inf"), 0.0)
    log_p = tl.where(inside, tl.load(log_pi + at, inside, 0.0), absent)
    here = game[:, None] * actions + action[None, :]
    reference = tl.where(inside, tl.load(log_mu + here, inside, 0.0), absent)
    own_tau = tl.load(tau + row, row < rows, 1.0)
    if HELD:
        mask = inside[:, :, None] & (action < actions)[None, None, :]
        whole = here[:, :, None] * actions + action[None, None, :]
        table = tl.load(P + whole, mask, 0.0)
    last = log_p
    for step in range(steps):
        mixture, eta = mixture_of(log_p, reference, own_tau, rates, weights, step, BY_TAU, MIXES)
        policy = tl.exp(mixture)
        if HELD:
            gain = tl.sum(table * policy[:, None, :], 2)
        else:
            gain = _gain(P, scratch, policy, game, row, actions, K, BK)
        last = log_p
        log_p = normalised(mixture + eta[:, None] * gain)
    tl.store(log_pi + at, log_p, inside)
    tl.store(before + at, last, inside)
