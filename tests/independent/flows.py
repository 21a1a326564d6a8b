"""The differential equations whose ends the package's phases claim to be, one row at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from tests.independent.network import Cost, Network


@dataclass(frozen=True)
class Free:
    """ds/dt = mu(x, s)."""

    net: Network
    x: ndarray

    def force(self, s: ndarray) -> ndarray:
        """ds/dt."""
        return self.net.mu(self.x, s)

    def jacobian(self, s: ndarray) -> ndarray:
        """The derivative of the force."""
        return self.net.jacobian(self.x, s)

    def edge(self, s: ndarray) -> float:
        """Distance to the nearest corner of the force."""
        return self.net.edge(self.x, s)


@dataclass(frozen=True)
class Pulled:
    """ds/dt = mu(x, s) - beta dC/ds; in a box, the pull stands within the clip."""

    net: Network
    x: ndarray
    y: ndarray
    cost: Cost
    beta: complex

    def pull(self, s: ndarray) -> ndarray:
        """-beta dC/ds on all units."""
        out = np.zeros(self.net.n, dtype=np.result_type(s, type(self.beta)))
        out[self.net.outputs] = -self.beta * self.cost.gradient(s[self.net.outputs], self.y)
        return out

    def curve(self, s: ndarray) -> ndarray:
        """-beta d2C/ds2 on all units."""
        out = np.zeros((self.net.n,) * 2, dtype=np.result_type(s, type(self.beta)))
        z = self.net.outputs
        out[np.ix_(z, z)] = -self.beta * self.cost.hessian(s[z], self.y)
        return out

    def reach(self, s: ndarray) -> ndarray:
        """What stands within the clip."""
        return self.net.reach(self.x, s) + self.pull(s)

    def force(self, s: ndarray) -> ndarray:
        """ds/dt."""
        return self.net.clip(self.reach(s)) - s

    def jacobian(self, s: ndarray) -> ndarray:
        """The derivative of the force."""
        inner = self.net.w * self.net.gain(s)[None, :] + self.curve(s)
        return self.net.open(self.reach(s))[:, None] * inner - np.eye(self.net.n)

    def edge(self, s: ndarray) -> float:
        """Distance to the nearest corner of the force."""
        shift = self.pull(s)
        a = (self.net.reach(self.x, s) + shift)[self.net.boxed]
        gaps = [np.inf, *np.abs(a), *np.abs(a - 1)]
        return float(min(self.net.edge(self.x, s) if not self.net.boxed.any() else np.inf, *gaps))


@dataclass(frozen=True)
class Turned(Pulled):
    """ds/dt = mu(x, s) - beta dC/ds - (J - J^T)(s - s*), J the Jacobian at the free point s*.

    Where rho is the identity (boxes), it is clip(a* + D W^T D (s - s*) - beta dC/ds) - s, with
    D = 1 where the pre-activation a* is within the box.
    """

    free: ndarray

    def _fixed(self) -> tuple[ndarray, ndarray]:
        a = self.net.reach(self.x, self.free)
        d = self.net.open(a)
        return a, d[:, None] * self.net.w.T * d[None, :]

    def reach(self, s: ndarray) -> ndarray:
        v = s - self.free
        if self.net.boxed.any():
            a, back = self._fixed()
            return a + back @ v + self.pull(s)
        j = self.net.jacobian(self.x, self.free)
        return self.net.reach(self.x, s) - (j - j.T) @ v + self.pull(s)

    def jacobian(self, s: ndarray) -> ndarray:
        if self.net.boxed.any():
            inner = self._fixed()[1]
        else:
            j = self.net.jacobian(self.x, self.free)
            inner = self.net.w * self.net.gain(s)[None, :] - (j - j.T)
        return self.net.open(self.reach(s))[:, None] * (inner + self.curve(s)) - np.eye(self.net.n)


@dataclass(frozen=True)
class Pair:
    """A state and its adjoint: ds+-/dt = mu(m) +- J(m)^T d / 2 -+ (beta / 2) dC/ds(s+-).

    m = (s+ + s-) / 2, d = s+ - s-; the state is s+ followed by s-. In a box both are clipped, and
    J(m)^T d is D W^T d with D = 1 where the pre-activation of m is within the box.
    """

    net: Network
    x: ndarray
    y: ndarray
    cost: Cost
    beta: float

    def reach(self, s: ndarray) -> ndarray:
        """What stands within the clip, for s+ and then for s-."""
        up, down = np.split(s, 2)
        m, d = (up + down) / 2, up - down
        mean = self.net.reach(self.x, m)
        back = self.net.open(mean) * self.net.gain(m) * (self.net.w.T @ d) / 2
        both = [mean + back, mean - back]
        z = self.net.outputs
        for own, side, sign in zip((up, down), both, (1, -1), strict=True):
            side[z] -= sign * self.beta / 2 * self.cost.gradient(own[z], self.y)
        return np.concatenate(both)

    def force(self, s: ndarray) -> ndarray:
        """ds/dt."""
        return np.concatenate([self.net.clip(a) for a in np.split(self.reach(s), 2)]) - s

    def jacobian(self, s: ndarray) -> ndarray:
        """The derivative of the force, by central differences."""
        steps = 1e-6 * np.eye(len(s))
        columns = [(self.force(s + e) - self.force(s - e)) / 2e-6 for e in steps]
        return np.array(columns).T

    def edge(self, s: ndarray) -> float:
        """Distance to the nearest corner of the force."""
        gaps = [self.net.edge(self.x, np.mean(np.split(s, 2), axis=0))]
        for a in np.split(self.reach(s), 2):
            gaps += [*np.abs(a[self.net.boxed]), *np.abs(a[self.net.boxed] - 1)]
        return float(min(gaps))
