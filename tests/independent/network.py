"""Leaky integrators and costs in plain numpy: one square matrix for all weights, one row at a time.

Nothing here, in `flows`, `settling` or `updates` comes from the package: they are a second
implementation of the same mathematics, to hold the first one to.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray


def _logistic(z):
    return 0.5 + 0.5 * np.tanh(z / 2)


RHO = {
    "tanh": np.tanh,
    "sigmoid": _logistic,
    "sigmoid-4s-2": lambda z: _logistic(4 * z - 2),
    "hard-sigmoid": lambda z: np.where(z <= 0, 0.0, np.where(z >= 1, 1.0, z)),
    "softplus": lambda z: np.log(np.exp(-z / 2) + np.exp(z / 2)) + z / 2,
    "linear": lambda z: z + 0.0,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "relu6": lambda z: np.where(z <= 0, 0.0, np.where(z >= 6, 6.0, z)),
    "leaky-relu": lambda z: np.where(z > 0, z, z / 100),
    "dsilu": lambda z: _logistic(z) + z * np.cosh(z / 2) ** -2.0 / 4,
}
SLOPE = {
    "tanh": lambda z: np.cosh(z) ** -2.0,
    "sigmoid": lambda z: np.cosh(z / 2) ** -2.0 / 4,
    "sigmoid-4s-2": lambda z: np.cosh(2 * z - 1) ** -2.0,
    "hard-sigmoid": lambda z: np.where((z > 0) & (z < 1), 1.0, 0.0),
    "softplus": _logistic,
    "linear": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "relu6": lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0),
    "leaky-relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "dsilu": lambda z: np.cosh(z / 2) ** -2.0 * (2 - z * np.tanh(z / 2)) / 4,
}
CORNERS = {"hard-sigmoid": (0, 1), "relu": (0,), "relu6": (0, 6), "leaky-relu": (0,)}
"""Where each rho that is only piecewise smooth has its corners."""


@dataclass(frozen=True)
class Network:
    """mu(x, s) = clip(W rho(s) + V x + b) - s, the clip on the units in a box alone.

    Attributes:
        sizes: units a layer, the input first.
        rho: name of the activation.
        w, v, b: all recurrent weights [n, n], all input weights [n, n_in], all biases [n].
        tied: whether the blocks above the diagonal are the transposes of those below.
        plain: units whose rho is the identity, [n].
        boxed: units that live in [0, 1], [n].
        sees_activity: whether the local rule sees the change of rho(s) in place of that of s.
    """

    sizes: tuple[int, ...]
    rho: str
    w: ndarray
    v: ndarray
    b: ndarray
    tied: bool
    plain: ndarray
    boxed: ndarray
    sees_activity: bool

    @property
    def n(self) -> int:
        """Number of state variables."""
        return len(self.b)

    @cached_property
    def spans(self) -> list[range]:
        """The units of each layer but the input."""
        ends = np.cumsum(self.sizes[1:])
        return [range(e - size, e) for e, size in zip(ends, self.sizes[1:], strict=True)]

    @cached_property
    def outputs(self) -> ndarray:
        """Indices of the output units."""
        return np.array(self.spans[-1])

    def fire(self, s: ndarray) -> ndarray:
        """rho(s)."""
        return np.where(self.plain, s, RHO[self.rho](s))

    def gain(self, s: ndarray) -> ndarray:
        """rho'(s)."""
        return np.where(self.plain, 1.0, SLOPE[self.rho](s))

    def reach(self, x: ndarray, s: ndarray) -> ndarray:
        """The pre-activation a = W rho(s) + V x + b."""
        return self.w @ self.fire(s) + self.v @ x + self.b

    def open(self, a: ndarray) -> ndarray:
        """The slope of the clip at the pre-activation `a`: 1 where 0 < a < 1, or without a box."""
        return np.where(self.boxed & ((a <= 0) | (a >= 1)), 0.0, 1.0)

    def clip(self, a: ndarray) -> ndarray:
        """`a`, clipped to the box if there is one."""
        return np.where(self.boxed, np.minimum(np.maximum(a.real, 0), 1), a)

    def mu(self, x: ndarray, s: ndarray) -> ndarray:
        """The vector field."""
        return self.clip(self.reach(x, s)) - s

    def jacobian(self, x: ndarray, s: ndarray) -> ndarray:
        """dmu/ds, [n, n]."""
        inner = self.w * self.gain(s)[None, :]
        return self.open(self.reach(x, s))[:, None] * inner - np.eye(self.n)

    def one_pass_upwards(self, x: ndarray) -> ndarray:
        """Where a free phase starts: each layer driven by the one below, nothing from above."""
        s = np.zeros(self.n)
        for k, span in enumerate(self.spans):
            a, units = self.v @ x + self.b, np.array(span)
            if k:
                below = np.array(self.spans[k - 1])
                a[units] += self.w[np.ix_(units, below)] @ self.fire(s)[below]
            s[units] = self.clip(a)[units]
        return s

    def edge(self, x: ndarray, s: ndarray) -> float:
        """Distance to the nearest corner of mu, in pre-activation or state."""
        a, z = self.reach(x, s)[self.boxed], s[~self.plain]
        corners = CORNERS.get(self.rho, ())
        gaps = [np.abs(a), np.abs(a - 1), *(np.abs(z - corner) for corner in corners)]
        return float(np.concatenate(gaps).min(initial=np.inf))


def assemble(
    sizes: tuple[int, ...],
    rho: str,
    parameters: Mapping[str, ndarray],
    *,
    tied: bool,
    coordinates: str,
    linear_output: bool,
) -> Network:
    """A network from one matrix a connection, named `forward.k`, `feedback.k` and `bias.k`."""
    n, depth = sum(sizes[1:]), len(sizes) - 1
    w, last = np.zeros((n, n)), np.zeros(n, dtype=bool)
    last[n - sizes[-1] :] = True
    for name, rows, columns in blocks(sizes, tied):
        w[np.ix_(rows, columns)] = parameters[name]
        if tied:
            w[np.ix_(columns, rows)] = parameters[name].T
    v = np.zeros((n, sizes[0]))
    v[: sizes[1]] = parameters["forward.1"]
    is_box = coordinates == "clipped"
    return Network(
        tuple(sizes),
        rho,
        w,
        v,
        np.concatenate([parameters[f"bias.{k}"] for k in range(1, depth + 1)]),
        tied,
        plain=np.full(n, True) if is_box else (last & linear_output),
        boxed=~(last & linear_output) if is_box else np.full(n, False),
        sees_activity=coordinates == "activity",
    )


def blocks(sizes: tuple[int, ...], tied: bool) -> list[tuple[str, range, range]]:
    """Each recurrent weight matrix with the rows and the columns of W that it fills."""
    starts = [0, *np.cumsum(sizes[1:])]
    spans = [range(a, b) for a, b in itertools.pairwise(starts)]
    found = []
    for k in range(1, len(spans)):
        found.append((f"forward.{k + 1}", spans[k], spans[k - 1]))
        if not tied:
            found.append((f"feedback.{k}", spans[k - 1], spans[k]))
    return found


COSTS = ("squared-error", "cross-entropy")


@dataclass(frozen=True)
class Cost:
    """A cost of the output units, one of `COSTS`: its value, its gradient, its curvature."""

    name: str

    def value(self, z: ndarray, y: ndarray) -> float:
        """C."""
        if self.name == "squared-error":
            return float(np.sum((z - y) ** 2) / 2)
        return float(-np.sum(y * np.log(_shares(z))))

    def gradient(self, z: ndarray, y: ndarray) -> ndarray:
        """dC/dz."""
        if self.name == "squared-error":
            return z - y
        return _shares(z) * y.sum() - y

    def hessian(self, z: ndarray, y: ndarray) -> ndarray:
        """d2C/dz2."""
        if self.name == "squared-error":
            return np.eye(len(z))
        p = _shares(z)
        return (np.diag(p) - np.outer(p, p)) * y.sum()


def _shares(z: ndarray) -> ndarray:
    e = np.exp(z - np.max(z.real))
    return e / e.sum()
