"""Elementwise device functions: rho, its change, the nudge, and which rows go on.

Triton inlines these functions into the kernels that call them.
"""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Within a kernel every value is a block of the device; Triton's annotations do not say so.

from __future__ import annotations

import triton
import triton.language as tl

FREE = tl.constexpr(0)
PLAIN = tl.constexpr(1)
EXACT = tl.constexpr(2)

IDENTITY = tl.constexpr(0)
TANH = tl.constexpr(1)
SIGMOID = tl.constexpr(2)
CLAMP = tl.constexpr(3)

SQUARED_ERROR = tl.constexpr(1)

WINDOW = tl.constexpr(8)
HEADWAY = tl.constexpr(0.98)
TINY = tl.constexpr(1.1754944e-38)


@triton.jit
def tanh(x):
    """tanh(x), accurate for small x too."""
    y = x * x
    small = x * (1 + y * (-1 / 3 + y * (2 / 15 + y * (-17 / 315 + y * (62 / 2835)))))
    shrunk = tl.exp(-2 * tl.abs(x))
    large = (1 - shrunk) / (1 + shrunk)
    return tl.where(y < 0.0625, small, tl.where(x < 0, -large, large))


@triton.jit
def clamp(x, low, high):
    """x within [low, high]; NaN stays NaN."""
    return tl.where(x < low, low, tl.where(x > high, high, x))


@triton.jit
def value(s, units):
    """rho(s): tanh(s), sigmoid(P s + Q), s within [P, Q], or s."""
    if units.KIND == TANH:
        r = tanh(s)
    elif units.KIND == SIGMOID:
        r = 0.5 + 0.5 * tanh(0.5 * (s * units.P + units.Q))
    elif units.KIND == CLAMP:
        r = clamp(s, units.P, units.Q)
    else:
        r = s
    return r


@triton.jit
def change(s, d, units):
    """rho(s + d) - rho(s), accurate for a small d."""
    if units.KIND == TANH:
        here, moved = tanh(s), tanh(d)
        r = moved * (1 - here * here) / (1 + here * moved)
    elif units.KIND == SIGMOID:
        here, moved = tanh(0.5 * (s * units.P + units.Q)), tanh(d * units.P * 0.5)
        r = 0.5 * moved * (1 - here * here) / (1 + here * moved)
    elif units.KIND == CLAMP:
        low, high = -(s - units.P), -(s - units.Q)
        r = clamp(d, low, high) - clamp(s * 0.0, low, high)
    else:
        r = d
    return r


@triton.jit
def signals(s, origin, slope, units, MODE: tl.constexpr):
    """The signals that W and W^T multiply.

    W multiplies rho(s), in deviations the change of rho, and in the exact rule that change minus
    D d. W^T is used only in the exact rule, where it multiplies d, or G d in a box.
    """
    v = s
    if MODE == FREE:
        r = value(s, units)
    elif MODE == PLAIN:
        r = change(origin, s, units)
    else:
        if units.KIND == IDENTITY:
            r = s * 0.0
        else:
            r = change(origin, s, units) - slope * s
        if units.BOXED:
            v = slope * s
    return r, v


@triton.jit
def pulled(current, s, phase, row, columns):
    """current - beta dC/ds at output states `s` [rows, outputs]; `columns` [1, m] numbers them."""
    mask = (row < phase.rows)[:, None] & (columns < phase.outputs)
    y = tl.load(phase.target + row[:, None] * phase.outputs + columns, mask, 0.0)
    beta = tl.load(phase.beta + row, row < phase.rows, 0.0)
    if phase.COST == SQUARED_ERROR:
        slope = s - y
    else:
        inside = (row >= 0)[:, None] & (columns < phase.outputs)
        top = tl.max(tl.where(inside, s, -float("inf")), 1)
        weight = tl.where(inside, tl.exp(s - top[:, None]), 0.0)
        slope = weight / tl.sum(weight, 1)[:, None] * tl.sum(y, 1)[:, None] - y
    return current - beta[:, None] * slope


@triton.jit
def shortening(phase, row):
    """The factor that scales down a step of the outputs, [rows, 1]; see `Nudge.scaled`."""
    beta = tl.load(phase.beta + row, row < phase.rows, 0.0)
    return (1 / (1 + beta * phase.curvature))[:, None]


@triton.jit
def product(a, b, total, how):
    """total + a b, in float32; `a` is rounded to the dtype of `b` first."""
    a = a.to(b.dtype)
    if how.WIDEN:  # the interpreter multiplies bfloat16 as if they were integers
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    else:
        total = tl.dot(a, b, total, input_precision=how.PRECISION)
    return total


@triton.jit
def goes_on(relative, size, earlier, step, limits):
    """Whether rows go on after `step` sweeps: neither converged, nor failed, nor stuck.

    The rules are those of `bioplaus.solvers.loop` with a check after every sweep. `earlier` is the
    residual one window of checks before, or infinite if there is none.
    """
    going = (size <= limits.largest) & (relative < float("inf")) & (step < limits.most)
    going = going & (relative > limits.tolerance)
    if not limits.LAST:
        stuck = (relative > HEADWAY * earlier) & (relative > 50 * 1.1920929e-07)
        going = going & ((stuck & closes_window(step, limits)) == 0)
    return going


@triton.jit
def closes_window(step, limits):
    """Whether a check is the last of its window."""
    return (step - limits.reach + 1) % WINDOW == 0
