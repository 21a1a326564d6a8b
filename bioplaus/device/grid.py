"""Any number of layers: each program owns columns of one layer; a barrier ends each half-sweep."""

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
    WINDOW,
    clamp,
    goes_on,
    product,
    pulled,
    shortening,
    signals,
)

RING = tl.constexpr(16)
"""Number of checks whose residuals are stored; more than one window."""


class Tiles(NamedTuple):
    """The columns of all layers in blocks; each block lies within one layer.

    Attributes:
        table: one row per block, int32 [number, 10]: first column and width of its layer, its own
            first column within the layer, its group, whether it holds outputs, its position in the
            first sweep, and first column and width of the layers below and above (width 0: none).
        W, V: the weights onto each block, W and in the exact rule W^T, [number, 2, K, BN]: from
            below and from above, zero-padded.
        number: number of blocks.
        layers: number of layers.
    """

    table: Any
    W: Any
    V: Any
    number: int
    layers: int


class Buffers(NamedTuple):
    """Buffers through which programs communicate.

    Attributes:
        even, odd: states, [rows, n], see `settle_grid`.
        r, v: the signals that W and W^T multiply, [rows, n].
        moves: each tile's part of ||F||^2, [number, rows].
        squares: its part of ||s||^2 at even and odd checks, [2, number, rows].
        ring: the last RING residuals of each row, [RING, rows].
        counter: counts arrivals at the barrier; zero at the launch.
    """

    even: Any
    odd: Any
    r: Any
    v: Any
    moves: Any
    squares: Any
    ring: Any
    counter: Any


@triton.jit
def _barrier(counter, goal):
    """Wait until all programs arrive here; what they wrote before can then be read."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    arrived = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    while arrived < goal:
        arrived = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()


@triton.jit
def _judge(phase, tiles, buffers, limits, ends, step, BM: tl.constexpr, TILES: tl.constexpr):
    """Check every row after `step` sweeps; return how many go on.

    All programs do this and get the same result, because they add the tiles' parts in the same
    order. If a program finds that a row has already ended at this step, another one was faster.
    """
    total = 0
    tile = tl.arange(0, TILES)
    for start in range(0, phase.rows, BM):
        row = start + tl.arange(0, BM)
        there = row < phase.rows
        part = there[None, :] & (tile < tiles.number)[:, None]
        at = tile[:, None] * phase.rows + row[None, :]
        moved = tl.sum(tl.load(buffers.moves + at, part, 0.0, cache_modifier=".cg"), 0)
        if phase.MODE == FREE:
            squares = buffers.squares + (step % 2) * tiles.number * phase.rows
            norm = tl.sqrt(tl.sum(tl.load(squares + at, part, 0.0, cache_modifier=".cg"), 0))
        else:
            norm = tl.load(phase.size + row, there, 1.0)
        relative = tl.sqrt(moved) / tl.maximum(norm, TINY)
        before = buffers.ring + ((step + RING - WINDOW) % RING) * phase.rows + row
        has_before = there & (row * 0 + step - limits.reach + 1 >= 2 * WINDOW)
        earlier = tl.load(before, has_before, float("inf"), cache_modifier=".cg")
        was = tl.load(ends.n_steps + row, there, 1, cache_modifier=".cg")
        is_open = there & ((was == 0) | (was == step))
        still = goes_on(relative, norm, earlier, step, limits)
        tl.store(buffers.ring + (step % RING) * phase.rows + row, relative, is_open)
        tl.store(ends.residual + row, relative, is_open)
        tl.store(ends.length + row, norm, is_open)
        tl.store(ends.n_steps + row, step, is_open & (still == 0))
        total += tl.sum((is_open & still).to(tl.int32), 0)
    tl.debug_barrier()
    return total


@triton.jit
def _weights(packed, tile, K: tl.constexpr, BN: tl.constexpr):
    """The weights onto a tile's columns from below and from above, [K, BN] each."""
    at = packed + (tile * 2 * K + tl.arange(0, K))[:, None] * BN + tl.arange(0, BN)[None, :]
    return tl.load(at), tl.load(at + K * BN)


@triton.jit
def _add_units(signal, W, phase, row, first, width, total, how, K: tl.constexpr):
    """total + input from up to K units of a layer, from column `first` on, with `width` left."""
    column = tl.arange(0, K)[None, :]
    mask = (row < phase.rows)[:, None] & (column < width)
    at = signal + row[:, None] * phase.n + first + column
    return product(tl.load(at, mask, 0.0, cache_modifier=".cg"), W, total, how)


@triton.jit
def _add_input(
    signal,
    packed,
    kept,
    tile,
    facts,
    phase,
    row,
    total,
    how,
    HELD: tl.constexpr,
    BN: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
):
    """total + the input of a signal from below and above to a tile's columns."""
    for side in tl.static_range(2):
        first, width = tl.load(facts + 6 + 2 * side), tl.load(facts + 7 + 2 * side)
        if HELD:
            if width > 0:
                W = kept[side]
                total = _add_units(signal, W, phase, row, first, width, total, how, K)
        else:
            for k in range(0, width, BK):
                line = (2 * tile + side) * K + k + tl.arange(0, BK)
                at = packed + line[:, None] * BN + tl.arange(0, BN)[None, :]
                W = tl.load(at, eviction_policy="evict_last")
                total = _add_units(signal, W, phase, row, first + k, width - k, total, how, BK)
    return total


@triton.jit
def _settle_rows(
    start,
    tile,
    facts,
    W,
    V,
    phase,
    tiles,
    buffers,
    ends,
    how,
    sweep,
    leading,
    looked,
    HELD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
):
    """Settle a tile's columns of a block of rows."""
    row = start + tl.arange(0, BM)
    there = row < phase.rows
    column = tl.load(facts + 2) + tl.arange(0, BN)[None, :]
    mask = there[:, None] & (column < tl.load(facts + 1))
    at = row[:, None] * phase.n + tl.load(facts) + column
    is_output = tl.load(facts + 4) > 0
    parity = row * 0 + tl.where(leading, sweep % 2, 2)  # 2 if the group has one buffer
    old = tl.load(buffers.even + at, mask & (parity != 0)[:, None], 0.0, cache_modifier=".cg")
    old += tl.load(buffers.odd + at, mask & (parity == 0)[:, None], 0.0, cache_modifier=".cg")
    current = tl.load(phase.base + at, mask, 0.0)
    here, slope = current * 0.0, current * 0.0
    if phase.MODE != FREE:
        here = tl.load(phase.origin + at, mask, 0.0)
    if phase.MODE == EXACT:
        slope = tl.load(phase.slope + at, mask, 0.0)
        total = current * 0.0
        total = _add_input(
            buffers.v, tiles.V, V, tile, facts, phase, row, total, how, HELD, BN, K, BK
        )
        current += slope * total
    if phase.MODE != EXACT or phase.CURVED:
        current = _add_input(
            buffers.r, tiles.W, W, tile, facts, phase, row, current, how, HELD, BN, K, BK
        )
    low = tl.where(is_output, phase.output.low, phase.hidden.low) - here
    high = tl.where(is_output, phase.output.high, phase.hidden.high) - here
    if phase.MODE != FREE:
        if is_output:
            current = pulled(current, here + old, phase, row, column)
    force = tl.where(mask, clamp(current, low, high) - old, 0.0)
    new = tl.where(mask, clamp(current, low, high), 0.0)
    if phase.MODE != FREE:
        if is_output:
            move = tl.where(leading & looked, force, current - old) * shortening(phase, row)
            new = tl.where(mask, clamp(old + move, low, high), 0.0)
    parts = tile * phase.rows + row
    tl.store(buffers.moves + parts, tl.sum(force * force, 1), there & (parity != 2))
    if phase.MODE == FREE:
        now = tl.where(leading, old, new)
        slot = tl.where(leading, sweep, sweep + 1) % 2
        squares = buffers.squares + slot * tiles.number * phase.rows
        tl.store(squares + parts, tl.sum(now * now, 1), there)
    going = there & (tl.load(ends.n_steps + row, there, 1, cache_modifier=".cg") == 0)
    tl.store(buffers.even + at, new, mask & going[:, None] & (parity != 1)[:, None])
    tl.store(buffers.odd + at, new, mask & going[:, None] & (parity == 1)[:, None])
    r, v = signals(new, here, slope, phase.hidden, phase.MODE)
    if is_output:
        r, v = signals(new, here, slope, phase.output, phase.MODE)
    if phase.MODE != EXACT or phase.CURVED:
        tl.store(buffers.r + at, r.to(buffers.r.dtype.element_ty), mask)
    if phase.MODE == EXACT:
        tl.store(buffers.v + at, v.to(buffers.v.dtype.element_ty), mask)


@triton.jit
def settle_grid(
    phase,
    tiles,
    buffers,
    limits,
    ends,
    how,
    first,
    last,
    RESIDENT: tl.constexpr,
    HELD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
    TILES: tl.constexpr,
):
    """Do half-sweeps `first` to `last` over all rows: first layer by layer, then group by group.

    The group that a sweep settles first has two buffers, which alternate between sweeps, because
    whether a row goes on is known only once all of its columns have been computed. If a row ended
    after t sweeps, that group's states are in `odd` if t - 1 is odd, else in `even`.

    Args:
        phase, limits, ends, how: see `arguments`.
        tiles: a `Tiles`.
        buffers: a `Buffers`.
        first, last: half-sweeps to run. A RESIDENT launch runs them all and stops once every row
            has ended; otherwise a launch is one half-sweep.
        RESIDENT: whether all programs run at the same time, so that they can wait for each other.
        HELD: whether each program has one tile, whose weights it loads only once.
        BM, BN: rows and columns of a block.
        K, TILES: padded numbers of units in a layer and of tiles.
        BK: number of source units per product if weights are not held.
    """
    pid, programs = tl.program_id(0), tl.num_programs(0)
    W, V = 0, 0
    if HELD:
        if phase.MODE != EXACT or phase.CURVED:
            W = _weights(tiles.W, pid, K, BN)
        if phase.MODE == EXACT:
            V = _weights(tiles.V, pid, K, BN)
    half, running = first, 1
    while (half < last) & (running > 0):
        after = half >= tiles.layers
        sweep = tl.where(after, (half - tiles.layers) // 2 + 1, 0)
        group = (half - tiles.layers) % 2
        leading = after & (group == 0)
        looked = (sweep >= limits.reach) & ((limits.tolerance > 0.0) | (sweep == limits.most))
        if after & (group == 1) & looked:
            running = _judge(phase, tiles, buffers, limits, ends, sweep, BM, TILES)
        if running > 0:
            for tile in range(pid, tiles.number, programs):
                facts = tiles.table + tile * 10
                mine = tl.where(after, tl.load(facts + 3) == group, tl.load(facts + 5) == half)
                if mine:
                    for start in range(0, phase.rows, BM):
                        _settle_rows(
                            start,
                            tile,
                            facts,
                            W,
                            V,
                            phase,
                            tiles,
                            buffers,
                            ends,
                            how,
                            sweep,
                            leading,
                            looked,
                            HELD,
                            BM,
                            BN,
                            K,
                            BK,
                        )
        if RESIDENT:
            _barrier(buffers.counter, (half - first + 1) * programs)
        half += 1
