"""Fields without a hand-written fast path, and layered fields with every kind of connection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bioplaus.costs import one_hot
from bioplaus.fields import (
    Connection,
    Conv,
    Dense,
    FunctionField,
    Lateral,
    Layer,
    LayeredField,
    Tied,
    VectorField,
)

POOLINGS = ("none", "average", "max", "softmax")
SMOOTH = ("tanh", "sigmoid", "softplus", "dsilu")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gated(seed: int = 0, n: int = 12, **settings: object) -> FunctionField:
    """A circuit in which some synapses gate others."""

    def mu(p: dict[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        gate = torch.sigmoid(s @ p["gate"].T)
        return gate * torch.tanh(s @ p["w"].T + x @ p["u"].T + p["b"]) - s

    g, scale = generator(seed), n**-0.5
    shapes = {"gate": (n, n), "w": (n, n), "u": (n, 5), "b": (n,)}
    p = {
        name: 0.7 * scale * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    return FunctionField(mu, p, n=n, n_output=3, input=5, **settings)  # pyright: ignore[reportArgumentType]


def convolutional(pool: str, rho: str = "tanh", seed: int = 0) -> LayeredField:
    """Two convolutions with separate feedback kernels, and a dense output."""
    window = 1 if pool == "none" else 2
    side, top = 8 // window, 8 // window**2
    layers = [Layer((3, side, side), rho), Layer((4, top, top), rho), Layer(3, "linear")]
    connections = [
        Conv(0, 1, pool=pool),
        Conv(1, 2, pool=pool, gain=0.6),
        Conv(2, 1, pool=pool, feedback=True, gain=0.4),
        Dense(2, 3, gain=0.6),
        Dense(3, 2, gain=0.4),
    ]
    return LayeredField((2, 8, 8), layers, connections, generator=generator(seed), dtype=DOUBLE)


def dale(seed: int = 0) -> LayeredField:
    """Excitatory and inhibitory units with lateral connections."""
    signs = torch.tensor([1.0] * 8 + [-1.0] * 2)
    connections = [
        Dense(0, 1),
        Lateral(1, gain=0.4, signs=signs),
        Dense(1, 2, gain=0.5, signs=signs),
        Dense(2, 1, gain=0.3),
    ]
    layers = [Layer(10, "softplus"), Layer(3, "linear")]
    return LayeredField(6, layers, connections, generator=generator(seed), dtype=DOUBLE)


def sparse(seed: int) -> LayeredField:
    """A random sparse graph with cycles: any layer may reach any other, and itself."""
    g = generator(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=g))

    sizes = [4 + draw(5) for _ in range(3 + draw(3))]
    layers = [Layer(size, SMOOTH[draw(len(SMOOTH))]) for size in sizes[:-1]]
    layers.append(Layer(sizes[-1], "linear"))
    connections: list[Connection] = [Dense(0, 1), Dense(0, 2, gain=0.5)]
    gain = 0.8 / len(sizes)
    for source in range(1, len(sizes) + 1):
        for target in range(1, len(sizes) + 1):
            if source == target:
                if draw(2):
                    connections.append(Lateral(source, gain=gain))
            elif target == source + 1 or draw(3):
                shape = (sizes[target - 1], sizes[source - 1])
                mask = (torch.rand(shape, generator=g) < 0.6).double()
                connections.append(Dense(source, target, gain=gain, mask=mask))
    return LayeredField(5, layers, connections, generator=g, dtype=DOUBLE)


def tied() -> LayeredField:
    """Convolutional layers whose feedback is the transpose."""
    layers = [Layer((2, 8, 8), "tanh"), Layer((3, 4, 4), "tanh"), Layer(3, "linear")]
    connections = [
        Conv(0, 1),
        Conv(1, 2, pool="average", gain=0.5),
        Tied(2, 1),
        Dense(2, 3, gain=0.5),
        Tied(3, 2),
    ]
    return LayeredField((1, 8, 8), layers, connections, generator=generator(0), dtype=DOUBLE)


def batch(field: VectorField, rows: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the right shape for a field."""
    g = generator(seed)
    assert field.input is not None
    x = torch.rand(rows, *field.input, generator=g, dtype=DOUBLE)
    y = torch.randint(field.n_output, (rows,), generator=g)
    return x, one_hot(y, field.n_output, DOUBLE)


DOUBLE = torch.float64
FIELDS: dict[str, Callable[[], VectorField]] = {
    "gated": gated,
    "dale": dale,
    "sparse": lambda: sparse(0),
    "tied": tied,
    **{f"conv-{pool}": (lambda pool=pool: convolutional(pool)) for pool in POOLINGS},
}
