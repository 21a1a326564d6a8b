"""The oracles agree with one another, with dense algebra and with someone else's code."""

import pytest
import torch
import torchdeq

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import (
    FiniteDifference,
    Implicit,
    RecurrentBackprop,
    Unrolled,
)
from bioplaus.linear import gmres
from bioplaus.phases import Settling
from bioplaus.solvers import Sweeps
from tests.bioplaus.test_asymmetric import true_gradient
from tests.fields import SMOOTH, TIGHT, clipped, flat, problem

ZOO = [*({"activation": name} for name in SMOOTH), {"tied": True}, clipped(seed=1)]


def oracle(kind, p, cost, **kw):
    return flat(kind(TIGHT, **kw)(p.field, p.x, p.y, cost).updates)


@pytest.mark.parametrize("kw", ZOO, ids=str)
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_oracles_agree(kw, cost):
    p, cost = problem(**kw), get_cost(cost)
    exact = true_gradient(p, cost)
    for found in (
        oracle(Implicit, p, cost),
        oracle(Implicit, p, cost, dense_up_to=0),
        oracle(RecurrentBackprop, p, cost),
        oracle(Unrolled, p, cost),
    ):
        assert (found - exact).norm() < 1e-9 * exact.norm()


@pytest.mark.parametrize("kw", [{}, {"tied": True}, {"activation": "softplus"}], ids=str)
def test_finite_differences_of_the_cost_agree(kw):
    p, cost = problem(sizes=(4, 5, 3), batch=2, **kw), get_cost("squared-error")
    exact = oracle(Implicit, p, cost)
    assert (oracle(FiniteDifference, p, cost) - exact).norm() < 1e-9 * exact.norm()


def test_an_adjoint_that_grows_does_not_pass_for_settled():
    # x' = -x + w x has the fixed point 0 for any w and x = 0; above w = 1 it is not stable.
    p = problem(sizes=(2, 1, 1), activation="linear", batch=1, angle=0.0)
    for name, value in p.field.parameters.items():
        value.fill_(1.01 if name in ("forward.2", "feedback.1") else 0.0)
    p.x.zero_()
    found = RecurrentBackprop(TIGHT, adjoint_steps=2000)(
        p.field, p.x, p.y, get_cost("squared-error")
    )
    assert found.nudged[0].residual.item() > 100


def test_torchdeq_agrees():
    p, cost = problem(), get_cost("squared-error")
    theta = {k: v.clone().requires_grad_() for k, v in p.field.parameters.items()}
    deq = torchdeq.get_deq(
        f_solver="fixed_point_iter",
        f_tol=1e-13,
        f_max_iter=2000,
        ift=True,
        b_solver="fixed_point_iter",
        b_tol=1e-13,
        b_max_iter=2000,
    )

    def step(s):
        return s + p.field.explicit_field(theta, p.x, s)

    ends, _ = deq(step, torch.zeros(4, p.field.n, dtype=torch.float64))
    value = cost.value(ends[-1][:, p.field.output], p.y).mean()
    slopes = torch.autograd.grad(value, list(theta.values()))
    theirs = -flat(dict(zip(theta, slopes, strict=True)))
    ours = oracle(Implicit, p, cost)
    assert (theirs - ours).norm() < 1e-6 * ours.norm()


def test_gmres_solves_every_row():
    g = torch.Generator().manual_seed(0)
    n = 40
    matrices = (
        torch.eye(n, dtype=torch.float64)
        + 0.5 * torch.randn(5, n, n, generator=g, dtype=torch.float64) / n**0.5
    )
    b = torch.randn(5, n, generator=g, dtype=torch.float64)
    b[3] = 0
    x, residual = gmres(lambda v: (matrices @ v[..., None])[..., 0], b, tolerance=1e-13)
    expected = torch.linalg.solve(matrices, b[..., None])[..., 0]
    torch.testing.assert_close(x, expected, atol=1e-10, rtol=0)
    assert (residual <= 1e-12).all()


def test_an_unconverged_adjoint_is_reported():
    p, cost = problem(), get_cost("squared-error")
    short = RecurrentBackprop(TIGHT, adjoint_steps=3)(p.field, p.x, p.y, cost)
    assert short.nudged[0].residual.min() > 1e-4


def test_finite_differences_refuse_large_networks():
    p = problem(sizes=(100, 80, 3))
    with pytest.raises(InputError, match="at most 5000 parameters"):
        FiniteDifference(Settling(Sweeps()))(p.field, p.x, p.y, get_cost("squared-error"))
