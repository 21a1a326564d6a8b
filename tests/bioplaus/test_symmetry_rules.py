"""Homeostasis and Kolen-Pollack: the rules that make feedback the transpose of feedforward."""

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Homeostasis, KolenPollack, VectorFieldEP
from bioplaus.gradient_check import check_gradients, weight_angles
from bioplaus.jacobian import exact_asymmetry
from bioplaus.phases import free_phase
from tests.fields import TIGHT, autograd_field, clipped, flat, problem

COST = get_cost("squared-error")
KINDS = [{}, {"activation": "sigmoid-4s-2"}, {"tied": True, "activation": "sigmoid"}, clipped()]


def homeostatic_loss(p, theta, s):
    """||J - J^T||_F^2 / 2 of the mean row, J by autograd of the field."""
    total = 0.0
    for row in range(len(s)):
        one = type(p)(p.field, p.x[row : row + 1], p.y[row : row + 1])
        j = torch.autograd.functional.jacobian(
            lambda z, one=one: autograd_field(one, theta, z[None])[0], s[row], create_graph=True
        )
        total = total + 0.5 * (j - j.T).square().sum()
    return total / len(s)


@pytest.mark.parametrize("kw", KINDS, ids=str)
def test_closed_form_is_the_gradient_of_the_homeostatic_loss(kw):
    p = problem(**kw)
    s = free_phase(p.field, p.x, settling=TIGHT).s
    theta = {name: q.clone().requires_grad_() for name, q in p.field.parameters.items()}
    wanted = [name for name in theta if not name.startswith("bias") and name != "forward.1"]
    loss = homeostatic_loss(p, theta, s)
    slopes = torch.autograd.grad(loss, [theta[name] for name in wanted])
    got = p.field.symmetrising_update(s, p.field.drive(p.x))
    assert got.keys() == set(wanted)
    for name, slope in zip(wanted, slopes, strict=True):
        torch.testing.assert_close(got[name], -slope, atol=1e-12, rtol=0)


def test_the_loss_is_the_paper_s_expectation():
    p = problem()
    s = free_phase(p.field, p.x, settling=TIGHT).s
    loss = homeostatic_loss(p, p.field.parameters, s)
    g, draws = torch.Generator().manual_seed(0), 20_000
    e = torch.randn(draws, *s.shape, generator=g, dtype=s.dtype)
    at = p.at(s)
    once = torch.stack([at.jvp(v) for v in e])
    twice = torch.stack([at.jvp(v) for v in once])
    sample = (once.square().sum(2) - (e * twice).sum(2)).mean(1)
    error = sample.std() / draws**0.5
    assert abs(sample.mean() - loss) < 3 * error
    assert error < 0.02 * loss


def test_homeostasis_is_the_vector_field_and_strength_times_the_rule():
    p = problem()
    estimate = Homeostasis(TIGHT, strength=0.3)(p.field, p.x, p.y, COST)
    plain = VectorFieldEP(TIGHT)(p.field, p.x, p.y, COST).updates
    added = p.field.symmetrising_update(estimate.free.s, p.field.drive(p.x))
    for name, update in estimate.updates.items():
        expected = plain[name] + 0.3 * added[name] if name in added else plain[name]
        torch.testing.assert_close(update, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_homeostasis_lowers_the_asymmetry(kw):
    p = problem(**kw)
    s = free_phase(p.field, p.x, settling=TIGHT).s
    before = exact_asymmetry(p.at(s)).ratio
    for _ in range(300):
        for name, update in p.field.symmetrising_update(s, p.field.drive(p.x)).items():
            p.field.parameters[name].add_(update, alpha=0.05)
    assert exact_asymmetry(p.at(s)).ratio < 0.1 * before


def test_kolen_pollack_shrinks_the_difference_by_its_decay_alone():
    p, rate, decay = problem(), 0.1, 0.5
    rule = KolenPollack(TIGHT, decay=decay)
    pairs = p.field.partners().items()

    def difference():
        theta = p.field.parameters
        return {back: theta[back] - theta[forward].T for back, forward in pairs}

    before = difference()
    assert min(weight_angles(p.field).values()) > 80
    for _ in range(200):
        for name, update in rule(p.field, p.x, p.y, COST).updates.items():
            p.field.parameters[name].add_(update, alpha=rate)
    for name, left in difference().items():
        expected = before[name] * (1 - rate * decay) ** 200
        torch.testing.assert_close(left, expected, atol=1e-12, rtol=0)
    assert max(weight_angles(p.field).values()) < 3


def test_a_check_compares_the_estimate_without_the_regulariser():
    p = problem()
    settings = {"strength": 3.0, "decay": 3.0}
    names = ["vector-field", "homeostasis", "kolen-pollack"]
    report = check_gradients(p.field, p.x, p.y, COST, names, [0.1], settings=settings)
    found = {(r.estimator, r.parameter): r.relative_error for r in report.rows}
    assert found["homeostasis", "all"] == found["vector-field", "all"]
    assert found["kolen-pollack", "forward.2"] == found["vector-field", "forward.2"]
    assert found["kolen-pollack", "feedback.1"] != found["vector-field", "feedback.1"]


def test_tied_weights_leave_kolen_pollack_nothing_to_do():
    p = problem(tied=True)
    got = KolenPollack(TIGHT, decay=0.5)(p.field, p.x, p.y, COST).updates
    expected = VectorFieldEP(TIGHT)(p.field, p.x, p.y, COST).updates
    assert torch.equal(flat(got), flat(expected))


@pytest.mark.parametrize(("rule", "name"), [(Homeostasis, "strength"), (KolenPollack, "decay")])
def test_negative_weights_are_refused(rule, name):
    with pytest.raises(InputError, match=f"{name}=-1"):
        rule(**{name: -1})
