"""Whether a zero of the field is an attractor, against all eigenvalues of the dense Jacobian."""

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.fields import FunctionField, LeakyField
from bioplaus.nudging import Layered, Nudge
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Status, Sweeps, solve
from bioplaus.solvers.stability import abscissa
from tests.fields import largest_real_part, problem


def test_a_start_on_a_saddle_is_not_called_converged():
    field = LeakyField([2, 3, 2], "tanh", gain=2.0, angle=0.0, dtype=torch.float64)
    for name, weight in field.parameters.items():
        weight.zero_() if name.startswith("bias") else None
    x = torch.zeros(4, 2, dtype=torch.float64)
    zero = torch.zeros(4, 5, dtype=torch.float64)
    leaves = largest_real_part(field, x, zero) > 0
    found = free_phase(field, x, start=zero)
    assert leaves.all()
    assert (found.status == Status.UNSTABLE).all()
    assert "leaves when it is disturbed" in Status.UNSTABLE.message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("beta", [None, 0.4, -0.4])
def test_ritz_values_find_the_abscissa_of_larger_networks(dtype, beta, monkeypatch):
    p = problem(sizes=(6, 30, 20, 4), gain=0.9, feedback_gain=0.9)
    drive, nudge = p.field.drive(p.x), None
    if beta is not None:
        strength = torch.full((len(p.x), 1), beta, dtype=torch.float64)
        nudge = Nudge(get_cost("cross-entropy"), p.y, strength)
    dynamics, start = Layered(p.field, drive, nudge), p.field.initial_state(drive)
    s = solve(dynamics, start, Sweeps(), tolerance=1e-10, max_steps=2000).s
    exact = abscissa(dynamics, s)
    monkeypatch.setattr("bioplaus.solvers.stability.DENSE_UP_TO", 0)
    monkeypatch.setattr("bioplaus.solvers.stability.ACCURATE", 1e-4)
    monkeypatch.setattr("bioplaus.solvers.stability.CLEARLY", 1e9)
    torch.testing.assert_close(abscissa(dynamics, s.to(dtype)), exact, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("sizes", "gain", "seed"),
    [((10, 100, 100, 10), 1.0, 3), ((10, 100, 100, 100, 10), 1.0, 0), ((10, 300, 10), 0.5, 1)],
)
def test_a_large_network_at_the_edge_is_told_from_a_stable_one(sizes, gain, seed):
    """The exact eigenvalues are +0.04, +0.15 and clearly negative."""
    g = torch.Generator().manual_seed(seed)
    field = LeakyField(sizes, "tanh", gain=gain, angle=90.0, generator=g, dtype=torch.float64)
    x, s = torch.zeros(2, sizes[0]).double(), torch.zeros(2, sum(sizes[1:])).double()
    exact = largest_real_part(field, x, s)
    dynamics = Layered(field, field.drive(x))
    torch.testing.assert_close(abscissa(dynamics, s), exact, atol=0.01, rtol=0.2)
    found = free_phase(field, x, start=s, settling=Settling(verify=True))
    assert (found.status == Status.UNSTABLE).equal(exact >= 0)


def test_a_loop_of_two_units_among_hundreds_is_found():
    n, rng = 400, torch.Generator().manual_seed(1)
    w = 0.8 * torch.randn(n, n, generator=rng, dtype=torch.float64) / n**0.5
    w = torch.block_diag(w, torch.tensor([[0.0, 1.2], [1.2, 0.0]], dtype=torch.float64))
    field = FunctionField(lambda p, x, s: s @ p["w"].T - s, {"w": w}, n=n + 2, n_output=1)
    x = torch.zeros(1, 1, dtype=torch.float64)
    s = torch.zeros(1, n + 2, dtype=torch.float64)
    found = free_phase(field, x, start=s, settling=Settling(verify=True))
    torch.testing.assert_close(found.abscissa, torch.tensor([0.2]).double(), atol=0.01, rtol=0)
    assert found.status.tolist() == [Status.UNSTABLE]


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_beta_times_curvature_decides_over_the_phase_away_from_the_target(factor):
    # a lone linear output: ds/dt = a - s - beta (s - y), -1 - beta its only eigenvalue
    p = problem(sizes=(3, 1))
    strength = torch.full((len(p.x), 1), -factor, dtype=torch.float64)
    nudge = Nudge(get_cost("squared-error"), p.y, strength)
    dynamics = Layered(p.field, p.field.drive(p.x), nudge)
    s = torch.zeros(len(p.x), 1, dtype=torch.float64)
    torch.testing.assert_close(abscissa(dynamics, s), torch.full((4,), factor - 1).double())
