"""Two layers: a program settles a block of rows from start to end without a barrier."""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Within a kernel every value is a block of the device; Triton's annotations do not say so.

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from bioplaus.device.elementwise import (
    EXACT,
    FREE,
    TINY,
    clamp,
    closes_window,
    goes_on,
    product,
    pulled,
    shortening,
    signals,
)


class Side(NamedTuple):
    """One of the two layers.

    Attributes:
        start, width: its columns.
        W, V: the weights from the other layer, W and in the exact rule W^T; zero-padded, one
            column per unit of this layer.
        units: properties of its units.
    """

    start: int
    width: int
    W: Any
    V: Any
    units: Any


@triton.jit
def _loaded(pointer, phase, row, side, SIZE: tl.constexpr):
    """Load one layer's columns of an array with one value per unit, [rows, SIZE], zero-padded."""
    column = tl.arange(0, SIZE)
    mask = (row < phase.rows)[:, None] & (column < side.width)[None, :]
    at = row[:, None] * phase.n + side.start + column[None, :]
    return tl.load(pointer + at, mask, 0.0)


@triton.jit
def _held(phase, row, side, SIZE: tl.constexpr):
    """Base, origin and slope of one layer."""
    base = _loaded(phase.base, phase, row, side, SIZE)
    origin, slope = base * 0.0, base * 0.0
    if phase.MODE != FREE:
        origin = _loaded(phase.origin, phase, row, side, SIZE)
    if phase.MODE == EXACT:
        slope = _loaded(phase.slope, phase, row, side, SIZE)
    return base, origin, slope


@triton.jit
def _weights(phase, side, OTHER: tl.constexpr, SIZE: tl.constexpr):
    """The weights from the other layer, W and W^T, [OTHER, SIZE] each."""
    at = tl.arange(0, OTHER)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    if phase.MODE != EXACT:
        W = tl.load(side.W + at)
        V = W
    else:
        V = tl.load(side.V + at)
        if phase.CURVED:
            W = tl.load(side.W + at)
        else:
            W = V
    return W, V


@triton.jit
def _current(base, slope, r, v, W, V, phase, how):
    """base + W r, or in the exact rule base + W q + D W^T d."""
    total = base
    if phase.MODE == EXACT:
        total += slope * product(v, V, base * 0.0, how)
    if phase.MODE != EXACT or phase.CURVED:
        total = product(r, W, total, how)
    return total


@triton.jit
def settle_pair(
    state,
    phase,
    first,
    second,
    limits,
    ends,
    how,
    BM: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
):
    """Sweep over two layers until every row of the block has ended.

    Args:
        state: s or d, [rows, n]; holds the initial state, and the final one afterwards.
        phase: F, a `PhaseArguments`.
        first, second: the layers, one `Side` each, in the order in which a sweep settles them; in
            a nudged phase the outputs are first.
        limits, ends, how: see `arguments`.
        BM, A, B: rows of a block, and the padded numbers of units in the layers.
    """
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    there = row < phase.rows
    a, b = _loaded(state, phase, row, first, A), _loaded(state, phase, row, second, B)
    a_base, a_origin, a_slope = _held(phase, row, first, A)
    b_base, b_origin, b_slope = _held(phase, row, second, B)
    a_W, a_V = _weights(phase, first, B, A)
    b_W, b_V = _weights(phase, second, A, B)
    a_column = tl.arange(0, A)[None, :]
    a_mask = there[:, None] & (a_column < first.width)
    b_mask = there[:, None] & (tl.arange(0, B)[None, :] < second.width)
    a_low, a_high = first.units.low - a_origin, first.units.high - a_origin
    b_low, b_high = second.units.low - b_origin, second.units.high - b_origin
    norm = tl.zeros((BM,), tl.float32)
    if phase.MODE != FREE:
        norm = tl.load(phase.size + row, there, 1.0)
    going, ended = there, row * 0
    relative = tl.zeros((BM,), tl.float32)
    earlier = tl.full((BM,), float("inf"), tl.float32)
    running, step = 1, 0
    while running > 0:
        r, v = signals(b, b_origin, b_slope, second.units, phase.MODE)
        current = _current(a_base, a_slope, r, v, a_W, a_V, phase, how)
        looked = (step > 0) & ((limits.tolerance > 0.0) | (step == limits.most))
        if phase.MODE != FREE:
            current = pulled(current, a_origin + a, phase, row, a_column)
        force = tl.where(a_mask, clamp(current, a_low, a_high) - a, 0.0)
        new_a = tl.where(a_mask, clamp(current, a_low, a_high), 0.0)
        if phase.MODE != FREE:
            move = tl.where(looked, force, current - a) * shortening(phase, row)
            new_a = tl.where(a_mask, clamp(a + move, a_low, a_high), 0.0)
        if looked:
            if phase.MODE == FREE:
                now = tl.sqrt(tl.sum(a * a, 1) + tl.sum(b * b, 1))
                norm = tl.where(going, now, norm)
            residual = tl.sqrt(tl.sum(force * force, 1)) / tl.maximum(norm, TINY)
            relative = tl.where(going, residual, relative)
            still = going & goes_on(relative, norm, earlier, step, limits)
            ended = tl.where(going & (still == 0), step, ended)
            if closes_window(step, limits):
                earlier = relative
            going = still
            running = tl.sum(going.to(tl.int32), 0)
        if running > 0:
            r_a, v_a = signals(new_a, a_origin, a_slope, first.units, phase.MODE)
            answer = _current(b_base, b_slope, r_a, v_a, b_W, b_V, phase, how)
            new_b = tl.where(b_mask, clamp(answer, b_low, b_high), 0.0)
            a, b = tl.where(going[:, None], new_a, a), tl.where(going[:, None], new_b, b)
        step += 1
    at = row[:, None] * phase.n
    tl.store(state + at + first.start + a_column, a, a_mask)
    tl.store(state + at + second.start + tl.arange(0, B)[None, :], b, b_mask)
    tl.store(ends.n_steps + row, ended, there)
    tl.store(ends.residual + row, relative, there)
    tl.store(ends.length + row, norm, there)
