"""asym-ep is exact for any asymmetry; vector-field keeps a floor."""

import numpy as np
import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.estimators import AsymEP, VectorFieldEP
from bioplaus.nudging import Nudge
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Anderson, Euler, Sweeps, SymmetricSweeps
from tests.fields import SMOOTH, TIGHT, clipped, distance, flat, problem, true_gradient

COST = get_cost("squared-error")
SIZES = (10, 30, 20, 10)  # 60 state variables


def errors(make, p, betas, cost=COST):
    exact = true_gradient(p, cost)
    estimates = (make(beta)(p.field, p.x, p.y, cost).updates for beta in betas)
    return np.array([distance(estimate, exact) for estimate in estimates])


@pytest.mark.parametrize("asymmetry", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("activation", SMOOTH)
def test_centered_error_falls_with_beta_squared(activation, asymmetry):
    gain = 0.2 if activation == "softplus" else 0.35
    kw = {"sizes": SIZES, "activation": activation, "gain": gain, "feedback_gain": 1.0}
    p = problem(**kw, asymmetry=asymmetry)
    found = errors(lambda b: AsymEP(TIGHT, beta=b), p, (1e-1, 1e-2, 1e-3))
    orders = np.log10(found[:-1] / found[1:])
    assert np.all(np.abs(orders - 2.0) < 0.1), (found, orders)
    assert found[-1] <= 1e-5
    floor = errors(lambda b: VectorFieldEP(TIGHT, beta=b), p, (1e-2, 1e-3))
    assert abs(floor[0] / floor[1] - 1) < 0.01
    assert floor[1] > 100 * found[-1]


@pytest.mark.parametrize("kw", [{}, {"tied": True}, {"coordinates": "activity"}], ids=str)
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
@pytest.mark.parametrize(("nudging", "order"), [("one-sided", 1.0), ("centered", 2.0)])
def test_order_in_beta(kw, cost, nudging, order):
    p = problem(**kw)
    betas = (0.04, 0.02, 0.01)
    found = errors(lambda b: AsymEP(TIGHT, beta=b, nudging=nudging), p, betas, get_cost(cost))
    orders = np.log2(found[:-1] / found[1:])
    assert np.all(np.abs(orders - order) < 0.2), orders


@pytest.mark.parametrize("seed", [1, 4, 5])
def test_clipped_states_give_the_exact_gradient_while_no_unit_meets_a_wall(seed):
    p = problem(**clipped(seed=seed))
    beta = 1e-4
    estimate = AsymEP(TIGHT, beta=beta)(p.field, p.x, p.y, COST)
    hidden = slice(0, p.field.output.start)
    free, moved = estimate.free.s[:, hidden], estimate.nudged[0].s[:, hidden]
    assert torch.equal((free > 0) & (free < 1), (moved > 0) & (moved < 1))
    assert distance(estimate.updates, true_gradient(p, COST)) < 1e-6


@pytest.mark.parametrize("solver", [Sweeps(), SymmetricSweeps(), Euler(0.5), Anderson(3)], ids=str)
@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_every_solver_gives_the_same(solver, kw):
    p = problem(**kw)
    settling = Settling(solver, tolerance=1e-12, free_steps=2000, nudged_steps=2000)
    update = flat(AsymEP(settling, beta=0.1)(p.field, p.x, p.y, COST).updates)
    expected = flat(AsymEP(TIGHT, beta=0.1)(p.field, p.x, p.y, COST).updates)
    torch.testing.assert_close(update, expected, atol=1e-9, rtol=0)


def test_the_symmetrised_field_is_its_formula():
    for kw in ({}, {"activation": "sigmoid-4s-2"}, {"tied": True}):
        p = problem(**kw)
        free = free_phase(p.field, p.x, settling=TIGHT).s
        estimator = AsymEP()
        nudge = Nudge(COST, p.y, torch.full((4, 1), 0.3, dtype=torch.float64))
        drive = p.field.drive(p.x)
        dynamics = estimator.dynamics(p.field, drive, nudge, free)
        v = torch.randn(free.shape, generator=torch.Generator().manual_seed(0), dtype=free.dtype)
        s = free + v
        expected = p.field.driven(drive, s)
        expected[:, p.field.output] -= 0.3 * COST.slope(s[:, p.field.output], p.y)
        expected -= p.at(free).jvp(v) - p.at(free).vjp(v)
        got = dynamics.force(v, torch.empty_like(v))
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
