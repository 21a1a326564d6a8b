"""Nudges on a complex circle: order N in beta, around the vector field's floor."""

import numpy as np
import pytest
import torch

from bioplaus import estimate_gradient
from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Holomorphic, VectorFieldEP
from bioplaus.estimators.base import Batch
from tests.fields import (
    SMOOTH,
    TIGHT,
    clipped,
    distance,
    flat,
    problem,
    true_gradient,
    vector_field_limit,
)

COST = get_cost("cross-entropy")


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("points", [1, 2, 3, 4, 6])
def test_n_points_reach_order_n(activation, points):
    p = problem(activation=activation)
    limit = vector_field_limit(p, COST)
    makers = (Holomorphic(TIGHT, beta=b, points=points) for b in (0.2, 0.1))
    found = [distance(make(p.field, p.x, p.y, COST).updates, limit) for make in makers]
    assert abs(np.log2(found[0] / found[1]) - points) < 0.1, found


@pytest.mark.parametrize("kw", [{}, {"coordinates": "activity"}, {"tied": True}], ids=str)
@pytest.mark.parametrize(("points", "nudging"), [(1, "one-sided"), (2, "centered")])
def test_one_and_two_points_are_the_real_differences(kw, points, nudging):
    p = problem(**kw)
    got = Holomorphic(TIGHT, beta=0.3, points=points)(p.field, p.x, p.y, COST)
    expected = VectorFieldEP(TIGHT, beta=0.3, nudging=nudging)(p.field, p.x, p.y, COST)
    torch.testing.assert_close(flat(got.updates), flat(expected.updates), atol=1e-11, rtol=0)


def test_the_lower_half_of_the_circle_is_the_conjugate_of_the_upper():
    p = problem()
    estimator = Holomorphic(TIGHT, beta=0.3, points=5)
    got = estimator(p.field, p.x, p.y, COST)
    assert len(got.nudged) == 3
    # the same sum over all five points, each settled for itself
    free, total = got.free.s, 0
    batch = Batch(p.field, p.x, p.field.drive(p.x), got.free, p.y, COST)
    for point in torch.exp(2j * torch.pi * torch.arange(5, dtype=torch.float64) / 5):
        (phase,) = estimator._settle(batch, 0.3 * point.reshape(1))
        total = total + (phase.s - free) * point.conj()
    assert total.imag.abs().max() < 1e-12
    expected = p.field.local_update(p.x, free, total.real / (5 * 0.3))
    torch.testing.assert_close(flat(got.updates), flat(expected), atol=1e-12, rtol=0)


def test_asymmetry_keeps_its_floor():
    p = problem(asymmetry=1.0)
    exact = true_gradient(p, COST)
    for beta in (0.1, 0.01):
        estimate = Holomorphic(TIGHT, beta=beta, points=6)(p.field, p.x, p.y, COST)
        assert distance(estimate.updates, exact) > 0.05


@pytest.mark.parametrize("kw", [clipped(), {"activation": "hard-sigmoid"}], ids=str)
def test_a_field_with_corners_is_refused_with_the_reason(kw):
    p = problem(**kw)
    with pytest.raises(InputError, match=r"'holomorphic'.*hard-sigmoid.*corners.*tanh"):
        Holomorphic(TIGHT)(p.field, p.x, p.y, COST)


@pytest.mark.parametrize(
    ("settings", "words"), [({"beta": -0.1}, "radius"), ({"points": 0}, "points=0")]
)
def test_settings_out_of_range(settings, words):
    p = problem()
    with pytest.raises(InputError, match=words):
        estimate_gradient(p.field, p.x, p.y, estimator="holomorphic", **settings)
