"""The pair (s+, s-): its difference is the adjoint, whatever the asymmetry."""

import numpy as np
import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Dyadic
from bioplaus.estimators.dyadic import Dyad
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Anderson, Euler, Sweeps
from tests.fields import SMOOTH, TIGHT, clipped, distance, flat, problem, true_gradient

COST = get_cost("squared-error")
ZOO = [*({"activation": name} for name in SMOOTH), {"tied": True}, {"coordinates": "activity"}]


@pytest.mark.parametrize("kw", [*ZOO, clipped(seed=4), {"asymmetry": 2.0, "gain": 0.35}], ids=str)
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_exact_with_an_error_of_order_two(kw, cost):
    p, cost = problem(**kw), get_cost(cost)
    exact = true_gradient(p, cost)
    estimates = (Dyadic(TIGHT, beta=b)(p.field, p.x, p.y, cost) for b in (0.1, 0.01))
    found = np.array([distance(estimate.updates, exact) for estimate in estimates])
    assert abs(np.log10(found[0] / found[1]) - 2.0) < 0.1, found
    assert found[1] < 1e-4


@pytest.mark.parametrize("kw", [{}, {"activation": "sigmoid-4s-2"}, {"tied": True}], ids=str)
def test_the_pair_follows_its_formula(kw):
    p, beta = problem(**kw), 0.3
    g = torch.Generator().manual_seed(1)
    free = free_phase(p.field, p.x, settling=TIGHT).s
    plus, minus = (free + torch.randn(free.shape, generator=g, dtype=free.dtype) for _ in "+-")
    m, d = (plus + minus) / 2, plus - minus
    drive = p.field.drive(p.x)
    expected = []
    for sign, s in ((1, plus), (-1, minus)):
        c = torch.zeros_like(s)
        c[:, p.field.output] = COST.slope(s[:, p.field.output], p.y)
        force = p.field.driven(drive, m) + sign * (p.at(m).vjp(d) - beta * c) / 2
        expected.append(force)
    dynamics = Dyad(p.field, drive, COST, p.y, torch.full((4, 1), beta, dtype=free.dtype))
    pair = torch.cat((plus, minus), 1)
    got = dynamics.force(pair, torch.empty_like(pair))
    torch.testing.assert_close(got, torch.cat(expected, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("solver", [Sweeps(), Euler(0.5), Anderson(3)], ids=str)
@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_every_solver_gives_the_same(solver, kw):
    p = problem(**kw)
    settling = Settling(solver, tolerance=1e-12, free_steps=2000, nudged_steps=2000)
    update = flat(Dyadic(settling, beta=0.1)(p.field, p.x, p.y, COST).updates)
    expected = flat(Dyadic(TIGHT, beta=0.1)(p.field, p.x, p.y, COST).updates)
    torch.testing.assert_close(update, expected, atol=1e-9, rtol=0)


def test_beta_zero_is_refused():
    with pytest.raises(InputError, match="no nudge"):
        Dyadic(beta=0.0)
