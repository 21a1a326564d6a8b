"""Updates at every step of the nudged phase, and where they go as the rate falls."""

import numpy as np
import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Continual, VectorFieldEP
from bioplaus.phases import Settling
from bioplaus.solvers import Euler
from tests.fields import TIGHT, clipped, distance, flat, problem

COST = get_cost("squared-error")


def update(p, **settings):
    return Continual(TIGHT, **settings)(p.field, p.x, p.y, COST).updates


@pytest.mark.parametrize("kw", [{}, clipped(seed=4), {"coordinates": "activity"}], ids=str)
@pytest.mark.parametrize("nudging", ["one-sided", "centered"])
def test_tends_to_the_resting_parameters_update_linearly_in_the_rate(kw, nudging):
    p = problem(**kw)
    resting = flat(update(p, rate=0.0, nudging=nudging, beta=0.1))
    found = [
        distance(update(p, rate=rate, nudging=nudging, beta=0.1), resting) for rate in (2e-4, 1e-4)
    ]
    assert abs(np.log2(found[0] / found[1]) - 1.0) < 0.1, found


@pytest.mark.parametrize(("nudging", "order"), [("one-sided", 1.0), ("centered", 2.0)])
def test_resting_parameters_give_the_vector_field_as_beta_falls(nudging, order):
    p = problem()
    limit = flat(VectorFieldEP(TIGHT, beta=1e-5)(p.field, p.x, p.y, COST).updates)
    found = [distance(update(p, rate=0.0, nudging=nudging, beta=b), limit) for b in (0.02, 0.01)]
    assert abs(np.log2(found[0] / found[1]) - order) < 0.1, found


def test_one_step_with_a_rate_is_worked_by_hand():
    p, beta, rate = problem(sizes=(3, 2)), 0.5, 0.1
    settling = Settling(Euler(1.0), tolerance=0.0, free_steps=50, nudged_steps=2)
    one_sided = Continual(settling, beta=beta, rate=rate, nudging="one-sided")
    got = one_sided(p.field, p.x, p.y, COST)
    weight, bias = (p.field.parameters[name].clone() for name in ("forward.1", "bias.1"))
    s, total = got.free.s, torch.zeros_like(weight)
    for _ in range(2):
        after = p.x @ weight.T + bias - beta * (s - p.y)
        change = (after - s).T / (beta * len(s))
        total += change @ p.x
        weight, bias = weight + rate * change @ p.x, bias + rate * change.sum(1)
        s = after
    torch.testing.assert_close(got.updates["forward.1"], total, atol=1e-12, rtol=0)


def test_the_field_itself_is_left_alone_and_rows_behind_the_gate_do_not_enter():
    p = problem()
    before = {name: q.clone() for name, q in p.field.parameters.items()}
    bad = p.x.clone()
    bad[1] = torch.nan
    settling = Settling(tolerance=1e-10, free_steps=200, nudged_steps=50)
    estimate = Continual(settling, gate=1e-3, rate=0.0)(p.field, bad, p.y, COST)
    assert estimate.accepted.tolist() == [True, False, True, True]
    others = [0, 2, 3]
    alone = Continual(settling, gate=1e-3, rate=0.0)(p.field, p.x[others], p.y[others], COST)
    expected = flat(alone.updates) * 3 / 4
    torch.testing.assert_close(flat(estimate.updates), expected, atol=1e-9, rtol=0)
    assert all(torch.equal(before[name], q) for name, q in p.field.parameters.items())


def test_a_negative_rate_is_refused():
    with pytest.raises(InputError, match="rate=-1"):
        Continual(rate=-1)
