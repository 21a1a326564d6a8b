"""The oracles agree with one another, with dense algebra and with someone else's code."""

import pytest
import torch
import torchdeq

from bioplaus import estimate_gradient
from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import (
    FiniteDifference,
    Implicit,
    RecurrentBackprop,
    Unrolled,
)
from bioplaus.linear import gmres
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Sweeps
from tests.bioplaus.test_asymmetric import true_gradient
from tests.fields import SMOOTH, TIGHT, clipped, flat, jacobian, problem

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
    assert found.nudged[0].residual.item() > 10


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


def chain(weight):
    """One unit that drives itself: ds/dt = (w^2 - 1) s + ..., J = [[-1, w], [w, -1]]."""
    p = problem(sizes=(2, 1, 1), activation="linear", batch=3, angle=0.0)
    for name, value in p.field.parameters.items():
        value.fill_(weight if name in ("forward.2", "feedback.1") else 0.1)
    return p


@pytest.mark.parametrize("kind", [Implicit, RecurrentBackprop, Unrolled, FiniteDifference])
def test_every_oracle_says_how_far_it_came(kind):
    p, cost = problem(sizes=(4, 5, 3), batch=3), get_cost("cross-entropy")
    good = kind(TIGHT)(p.field, p.x, p.y, cost)
    (phase,) = good.nudged
    assert phase.converged.all()
    assert phase.residual.max() <= TIGHT.tolerance
    if kind is not FiniteDifference:
        # the phase's state is the adjoint, and its residual that of a dense product
        s = good.free.s.requires_grad_()
        (c,) = torch.autograd.grad(cost.value(s[:, p.field.output], p.y).sum(), s)
        back = torch.einsum("bij,bi->bj", jacobian(p, s.detach()), phase.s)
        assert torch.linalg.vector_norm(back - c) < 1e-12 * torch.linalg.vector_norm(c)


SHORT = [
    (RecurrentBackprop, {"adjoint_steps": 10}),
    (Unrolled, {"steps": 4, "most_steps": 4}),
    (Implicit, {"dense_up_to": 0, "max_iterations": 2}),
]


@pytest.mark.parametrize(("kind", "kw"), SHORT, ids=lambda each: getattr(each, "name", ""))
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_an_oracle_that_stopped_short_has_not_converged(kind, kw, cost):
    p, cost = problem(), get_cost(cost)
    (phase,) = kind(TIGHT, **kw)(p.field, p.x, p.y, cost).nudged
    assert not phase.converged.any()
    # the residual is of the size of the error in the gradient: neither tiny nor senseless
    exact = true_gradient(p, cost)
    error = (oracle(kind, p, cost, **kw) - exact).norm() / exact.norm()
    assert 0.05 * error < phase.residual.max() < 20 * error


def test_perturbed_phases_that_did_not_settle_are_reported():
    p, cost = problem(sizes=(4, 5, 3), batch=2), get_cost("squared-error")
    short = Settling(Sweeps(), 1e-10, free_steps=3)
    free = free_phase(p.field, p.x, settling=TIGHT)
    (phase,) = FiniteDifference(short)(p.field, p.x, p.y, cost, free=free).nudged
    assert not phase.converged.any()
    assert phase.residual.min() > 1e-10


def turning(w):
    """A loop that turns the states of the first row, while those of the second rest at a wall.

    1 + dt J has the eigenvalues 1 - dt +- i w dt d, where d is 1 inside the box and 0 elsewhere.
    """
    p = problem(sizes=(1, 1, 1), batch=2, angle=0.0, **clipped())
    weights = {"forward.1": 1.0, "forward.2": w, "feedback.1": -w}
    for name, parameter in p.field.parameters.items():
        parameter.fill_(weights.get(name, 0.0))
    x = torch.tensor([[0.8], [-9.0]], dtype=torch.float64)
    return p, x, get_cost("squared-error")


def test_rows_whose_perturbed_phases_do_not_settle_stay_out_of_the_update():
    p, x, cost = turning(0.9)
    free = free_phase(p.field, x, settling=TIGHT)
    few = FiniteDifference(Settling(Sweeps(), 1e-10, free_steps=4), gate=1e-8)
    estimate = few(p.field, x, p.y, cost, free=free)
    assert estimate.accepted.tolist() == [False, True]
    alone = few(p.field, x[1:], p.y[1:], cost)
    for name, update in estimate.updates.items():
        torch.testing.assert_close(update, alone.updates[name] / 2)
    assert float(estimate.updates["bias.2"].abs().max()) > 0


def test_the_unrolled_derivative_goes_on_until_it_has_converged():
    cost = get_cost("squared-error")
    near, nearer = chain(0.96), chain(0.995)
    settling = Settling(Sweeps(), 1e-10, free_steps=2000)
    (phase,) = Unrolled(settling)(near.field, near.x, near.y, cost).nudged
    assert phase.converged.all()
    assert 300 < phase.n_steps.max() <= 1200
    settling = Settling(Sweeps(), 1e-13, free_steps=20_000)
    estimate = Unrolled(settling)(nearer.field, nearer.x, nearer.y, cost)
    assert estimate.free.converged.all()
    (phase,) = estimate.nudged
    assert not phase.converged.any()
    # what is left of the slowest mode: (1 + dt (w - 1))^T
    assert phase.residual.max() == pytest.approx((1 - 0.5 * 0.005) ** 300 / 2**0.5, rel=1e-6)
    assert phase.n_steps.max() == 300


def test_rows_whose_derivative_does_not_converge_stay_out_of_the_update():
    p, x, cost = turning(3.0)
    estimate = Unrolled(TIGHT, gate=1e-6)(p.field, x, p.y, cost)
    assert estimate.free.converged.all()
    assert estimate.accepted.tolist() == [False, True]
    (phase,) = estimate.nudged
    assert phase.converged.tolist() == [False, True]
    alone = Unrolled(TIGHT, gate=1e-6)(p.field, x[1:], p.y[1:], cost)
    for name, update in estimate.updates.items():
        torch.testing.assert_close(update, alone.updates[name] / 2)
    assert float(estimate.updates["bias.2"].abs().max()) > 0


def test_an_adjoint_much_larger_than_the_slope_settles_too():
    p, cost = chain(0.98), get_cost("squared-error")
    (phase,) = RecurrentBackprop(TIGHT)(p.field, p.x, p.y, cost).nudged
    # it reaches 1e-12 of its own size long before 1e-13 of the size of the slope
    assert torch.linalg.vector_norm(phase.s, dim=1).min() > 10
    assert phase.converged.all()
    exact = true_gradient(p, cost)
    assert (oracle(RecurrentBackprop, p, cost) - exact).norm() < 1e-9 * exact.norm()


def test_a_singular_jacobian_is_no_solution():
    p, cost = chain(1.0), get_cost("squared-error")
    estimate = Implicit(TIGHT)(p.field, p.x, p.y, cost)
    assert not estimate.nudged[0].converged.any()
    assert all(torch.isfinite(update).all() for update in estimate.updates.values())


def test_finite_differences_refuse_large_networks():
    p = problem(sizes=(100, 80, 3))
    with pytest.raises(InputError, match="at most 5000 parameters"):
        FiniteDifference(Settling(Sweeps()))(p.field, p.x, p.y, get_cost("squared-error"))


def test_front_door_estimate():
    p = problem()
    estimate = estimate_gradient(p.field, p.x, p.y, estimator="asym-ep", beta=1e-3, settling=TIGHT)
    truth = estimate_gradient(p.field, p.x, p.y, estimator="implicit", settling=TIGHT)
    for name, update in estimate.updates.items():
        torch.testing.assert_close(update, truth.updates[name], atol=1e-6, rtol=1e-4)
