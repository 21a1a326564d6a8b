"""What each estimator's update must be, from the exact ends of its phases, one row at a time.

`rows` are triples of input, free state and whatever the rule needs; a row that is not accepted
counts as zero in the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy import ndarray

from tests.independent.flows import Free
from tests.independent.network import Cost, Network, blocks

Updates = dict[str, ndarray]


def spread(net: Network, x: ndarray, s: ndarray, delta: ndarray) -> Updates:
    """(dmu/dtheta)^T delta of one row, without the slope of the clip, which the caller applies."""
    full = np.outer(delta, net.fire(s))
    first = np.array(net.spans[0])
    result = {"forward.1": np.outer(delta[first], x)}
    for name, rows, columns in blocks(net.sizes, net.tied):
        result[name] = full[np.ix_(rows, columns)]
        if net.tied:
            result[name] = result[name] + full[np.ix_(columns, rows)].T
    for k, span in enumerate(net.spans, 1):
        result[f"bias.{k}"] = delta[np.array(span)]
    return result


def mean(rows: Iterable[Updates], batch: int) -> Updates:
    """The mean over a batch of the updates of its accepted rows."""
    total: Updates = {}
    for row in rows:
        for name, value in row.items():
            total[name] = total.get(name, 0.0) + value / batch
    return total


def seen(net: Network, s: ndarray) -> ndarray:
    """What the local rule sees of a state."""
    return net.fire(s) if net.sees_activity else s


def one_sided(net: Network, free: ndarray, end: ndarray, beta: float) -> ndarray:
    """ds/dbeta from the free state and one nudged state."""
    return (seen(net, end) - seen(net, free)) / beta


def centered(net: Network, plus: ndarray, minus: ndarray, beta: float) -> ndarray:
    """ds/dbeta from two nudged states."""
    return (seen(net, plus) - seen(net, minus)) / (2 * beta)


def cauchy(net: Network, points: Sequence[ndarray], radius: float) -> ndarray:
    """ds/dbeta as the first Fourier coefficient of the state on the circle of nudges."""
    signal = np.array([seen(net, s) for s in points])
    return np.fft.fft(signal, axis=0)[1 % len(points)].real / (len(points) * radius)


def less_free(net: Network, delta: ndarray, free: ndarray, count: int, radius: float) -> ndarray:
    """With one point on the circle, the free state must be subtracted: the zeroth coefficient."""
    return delta - seen(net, free) / radius if count == 1 else delta


def adjoint(net: Network, x: ndarray, s: ndarray, c: ndarray) -> ndarray:
    """delta with (dmu/dtheta)^T delta = -dC/dtheta at the fixed point `s`."""
    wide = np.zeros(net.n)
    wide[net.outputs] = c
    return net.open(net.reach(x, s)) * np.linalg.solve(net.jacobian(x, s).T, wide)


def true_gradient(net: Network, x: ndarray, y: ndarray, s: ndarray, cost: Cost) -> Updates:
    """-dC(s*)/dtheta of one row."""
    return spread(net, x, s, adjoint(net, x, s, cost.gradient(s[net.outputs], y)))


def unrolling(
    flow: Free, s: ndarray, c: ndarray, dt: float, steps: int
) -> tuple[float, float, float]:
    """The derivative through Euler steps at the fixed point `s`, with M = 1 + dt J.

    Returns:
        dt sum_t ||M^t||, max_t ||M^t||, and ||(M^T)^steps c||, which the derivative misses.
    """
    step = np.eye(len(s)) + dt * flow.jacobian(s)
    power, norms = np.eye(len(s)), []
    for _ in range(steps):
        norms.append(float(np.linalg.norm(power)))
        power = step @ power
    wide = np.zeros(len(s))
    wide[flow.net.outputs] = c
    return dt * sum(norms), max(norms), float(np.linalg.norm(power.T @ wide))


def lopsidedness(net: Network, w: ndarray, x: ndarray, s: ndarray) -> float:
    """||J - J^T||_F^2 / 2 with other recurrent weights `w`, the slopes held."""
    j = net.open(net.reach(x, s))[:, None] * w * net.gain(s)[None, :]
    return float(np.sum((j - j.T) ** 2) / 2)


def evening(net: Network, x: ndarray, s: ndarray) -> Updates:
    """-d/dW of `lopsidedness`: with G = 2 (J - J^T), -open_i G_ij gain_j, block by block."""
    o, g = net.open(net.reach(x, s)), net.gain(s)
    j = o[:, None] * net.w * g[None, :]
    slope = -2 * o[:, None] * (j - j.T) * g[None, :]
    result = {}
    for name, rows, columns in blocks(net.sizes, net.tied):
        result[name] = slope[np.ix_(rows, columns)]
        if net.tied:
            result[name] = result[name] + slope[np.ix_(columns, rows)].T
    return result


def mirrored(net: Network, updates: Updates, weights: Updates, decay: float) -> Updates:
    """Kolen-Pollack: feedback is given the transposed update of its partner, and both decay."""
    result = dict(updates)
    for k in range(1, len(net.sizes) - 1) if not net.tied else ():
        there, back = f"forward.{k + 1}", f"feedback.{k}"
        result[back] = updates[there].T
        for name in (there, back):
            result[name] = result[name] - decay * weights[name]
    return result
