"""Layered fields beyond the chain in Brian2: what it settles and estimates is what torch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bioplaus import (
    Conv,
    Dense,
    FunctionField,
    Lateral,
    Layer,
    LayeredField,
    Settling,
    estimate_gradient,
    free_phase,
    hopfield,
    supports,
)

brian2 = pytest.importorskip("brian2")

from bioplaus.activations import ACTIVATIONS  # noqa: E402
from bioplaus.engines import Brian2  # noqa: E402
from bioplaus.engines.circuit import RHO  # noqa: E402

D = torch.float64


def g() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cortex() -> LayeredField:
    """Lateral weights with Dale's law and a mask, a skip from the input, another between layers."""
    mask = torch.rand(6, 6, generator=g()) < 0.6
    signs = torch.tensor([1, 1, 1, 1, -1, -1])
    layers = [Layer(6, "softplus"), Layer(5, "tanh"), Layer(3, "linear")]
    joined = [Dense(0, 1), Lateral(1, gain=0.3, signs=signs, mask=mask)]
    joined += [Dense(1, 2), Dense(2, 3), Dense(0, 2), Dense(1, 3), Dense(3, 1, gain=0.3)]
    joined += [Dense(2, 1, gain=0.3)]
    return LayeredField(4, layers, joined, generator=g(), dtype=D)


def mixed() -> LayeredField:
    """A box below a smooth layer."""
    layers = [Layer(6, "clipped"), Layer(5, "relu6"), Layer(3, "linear")]
    joined = [Dense(0, 1), Dense(1, 2), Dense(2, 3), Dense(2, 1, gain=0.3), Dense(3, 2, gain=0.3)]
    return LayeredField(4, layers, joined, generator=g(), dtype=D)


def boxes() -> LayeredField:
    layers = [Layer(6, "clipped"), Layer(3, "clipped")]
    joined = [Dense(0, 1), Lateral(1, gain=0.3), Dense(1, 2), Dense(2, 1, gain=0.3)]
    return LayeredField(4, layers, joined, generator=g(), dtype=D)


def pooled() -> LayeredField:
    layers = [Layer((2, 4, 4), "tanh"), Layer((2, 2, 2), "tanh"), Layer(3, "linear")]
    joined = [Conv(0, 1, kernel=3), Conv(1, 2, kernel=3, pool="average"), Dense(2, 3)]
    joined += [Conv(2, 1, kernel=3, pool="average", feedback=True, gain=0.3), Dense(3, 2, gain=0.3)]
    return LayeredField((1, 4, 4), layers, joined, generator=g(), dtype=D)


FIELDS = {
    "cortex": cortex,
    "mixed": mixed,
    "boxes": boxes,
    "tied": lambda: hopfield([4, 6, 3], generator=g(), dtype=D),
    "linear": lambda: hopfield([4, 6, 3], "linear", gain=0.3, generator=g(), dtype=D),
    "convolutions": pooled,
}


@pytest.mark.parametrize("name", FIELDS)
def test_brian2_agrees_with_torch(name: str) -> None:
    field = FIELDS[name]()
    x, y = torch.rand(2, *field.shapes[0], generator=g(), dtype=D), torch.tensor([0, 2])
    common = {"tolerance": 1e-9, "free_steps": 2000, "nudged_steps": 2000}
    other = Settling(Brian2(dt=0.5), **common)
    torch.testing.assert_close(
        free_phase(field, x, settling=other).s,
        free_phase(field, x, settling=Settling(**common)).s,
        rtol=0,
        atol=1e-7,
    )
    for rule in ("vector-field", "asym-ep"):
        assert supports(field, estimator=rule, beta=0.1, settling=other) is None
        found = [
            estimate_gradient(field, x, y, estimator=rule, beta=0.1, settling=each).updates
            for each in (other, Settling(**common))
        ]
        for parameter, update in found[1].items():
            torch.testing.assert_close(found[0][parameter], update, rtol=0, atol=1e-6)


def test_every_activation_has_its_equation() -> None:
    s = torch.linspace(-8, 8, 33, dtype=D)
    known = {"s": s.numpy(), "inf": np.inf, "clip": np.clip, "tanh": np.tanh, "exp": np.exp}
    known |= {"log1p": np.log1p, "abs": np.abs}
    assert RHO.keys() == ACTIVATIONS.keys()
    for name, equation in RHO.items():
        found = torch.from_numpy(eval(equation, known))
        torch.testing.assert_close(found, ACTIVATIONS[name](s), rtol=1e-12, atol=1e-12)


def test_what_has_no_circuit_is_refused_in_one_line() -> None:
    settling = Settling(Brian2())
    free = FunctionField(lambda p, x, s: p["w"] - s, {"w": torch.ones(3)}, n=3, n_output=2, input=4)
    maxed = [Conv(0, 1, kernel=3), Conv(1, 2, kernel=3, pool="max"), Dense(2, 3)]
    layers = [Layer((2, 4, 4)), Layer((2, 2, 2)), Layer(3, "linear")]
    own = LayeredField(4, [Layer(5, torch.sin), Layer(3, "linear")], [Dense(0, 1), Dense(1, 2)])
    refused = {
        "no circuit for a FunctionField": free,
        "no synapses for forward.2": LayeredField((1, 4, 4), layers, maxed),
        "no equation for activation='sin'": own,
    }
    for words, field in refused.items():
        line = supports(field, settling=settling)
        assert line is not None
        assert words in line
        assert "or the engine torch" in line
        assert "\n" not in line
