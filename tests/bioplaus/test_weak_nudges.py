"""A weak nudge is settled as well as a strong one: its tolerance goes down with beta."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bioplaus import LeakyField, Settling, VectorField, estimate_gradient
from bioplaus.estimators import Estimate
from bioplaus.phases import FULL_NUDGE

X = torch.rand(6, 10, generator=torch.Generator().manual_seed(1))
Y = torch.arange(6) % 4
# less is required in float32, which loses the digits of 1 / beta
KEPT = {"asym-ep": 1e-5, "vector-field": 1e-5, "holomorphic": 1e-5, "dyadic": 1e-4}
KEPT |= {"continual": 1e-4, "homeostasis": 1e-5}


def net(dtype: torch.dtype) -> VectorField:
    """The same numbers in both."""
    g = torch.Generator().manual_seed(0)
    single = LeakyField([10, 12, 4], "tanh", coordinates="membrane", gain=0.5, generator=g)
    return single if dtype == torch.float32 else single.precise()


def distance(got: Estimate, true: Estimate) -> float:
    pairs = [(got.updates[name].double(), true.updates[name]) for name in true.updates]
    error = sum(float((a - b).square().sum()) for a, b in pairs)
    return (error / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5


def reference(name: str) -> Estimate:
    exact = name in ("asym-ep", "dyadic")
    settings: dict[str, Any] = {} if exact else {"beta": 1e-5}
    rule = "implicit" if exact else "vector-field"
    settling = Settling(tolerance=1e-13)
    return estimate_gradient(
        net(torch.float64), X.double(), Y, estimator=rule, settling=settling, **settings
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KEPT)
def test_an_estimate_is_as_good_at_every_small_beta(name: str, dtype: torch.dtype) -> None:
    """With the tolerance of `Settling()`; a fixed tolerance left an error of a tenth."""
    own: Any = {"continual": {"rate": 0.0}, "homeostasis": {"strength": 0.0}}.get(name, {})
    true = reference(name)
    for beta in (1e-2, 1e-3, 1e-4, 1e-5):
        if beta >= KEPT[name] or dtype == torch.float64:
            got = estimate_gradient(net(dtype), X, Y, estimator=name, beta=beta, **own)
            assert distance(got, true) < 2e-3, beta
            assert all(bool((phase.n_steps < 20).all()) for phase in got.nudged)


def test_a_strong_nudge_keeps_its_tolerance() -> None:
    settling = Settling(tolerance=1e-3)
    assert settling.nudged(FULL_NUDGE) == settling.nudged(0.5) == settling.nudged(-2.0) == 1e-3
    assert settling.nudged(-1e-4) == pytest.approx(1e-6)
    assert settling.nudged(torch.full((3, 1), 1e-2)) == pytest.approx(1e-4)
    assert Settling(tolerance=0.0).nudged(1e-3, torch.float32) == 0.0
