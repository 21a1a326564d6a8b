"""Estimators on fields beyond leaky chains: exact where they should be, and bounded elsewhere."""

import dataclasses
import math

import pytest
import torch

from bioplaus import check_gradients
from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import (
    AsymEP,
    Continual,
    Dyadic,
    FiniteDifference,
    Holomorphic,
    Homeostasis,
    Implicit,
    KolenPollack,
    RecurrentBackprop,
    Unrolled,
    VectorFieldEP,
)
from bioplaus.jacobian import exact_asymmetry
from bioplaus.phases import free_phase
from bioplaus.solvers import Anderson, Euler
from tests.fields import TIGHT, distance, flat
from tests.graphs import FIELDS, batch, convolutional, dale, gated, sparse

COST = get_cost("cross-entropy")


def errors(field, *estimators, cost=COST):
    x, y = batch(field)
    truth = Implicit(TIGHT)(field, x, y, cost)
    assert bool(truth.free.converged.all())
    return [distance(e(field, x, y, cost).updates, flat(truth.updates)) for e in estimators]


@pytest.mark.parametrize("name", FIELDS)
def test_asym_ep_is_exact_on_any_field_and_vector_field_keeps_its_floor(name):
    field = FIELDS[name]()
    found = errors(field, AsymEP(TIGHT, beta=1e-3), VectorFieldEP(TIGHT, beta=1e-3))
    assert found[0] <= 1e-6
    assert found[1] > 1e-3
    # of second order in beta
    coarse, fine = errors(field, AsymEP(TIGHT, beta=0.1), AsymEP(TIGHT, beta=0.05))
    assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["gated", "dale", "conv-max"])
def test_every_other_estimator_and_oracle_serves_any_field(name):
    field = FIELDS[name]()
    plain, dyadic, resting, still = errors(
        field,
        VectorFieldEP(TIGHT, beta=1e-4),
        Dyadic(TIGHT, beta=1e-3),
        Homeostasis(TIGHT, beta=1e-4, strength=0.0),
        Continual(TIGHT, beta=1e-4, rate=0.0),
    )
    assert dyadic <= 1e-6
    assert resting == pytest.approx(plain, rel=1e-6)
    assert still == pytest.approx(plain, rel=1e-3)
    for error in errors(field, RecurrentBackprop(TIGHT), Unrolled(TIGHT)):
        assert error < 1e-9


@pytest.mark.slow
def test_the_gradient_by_differences_knows_nothing_of_any_derivative():
    for field in (gated(n=6), dale()):
        assert errors(field, FiniteDifference(TIGHT))[0] < 1e-8


@pytest.mark.parametrize("solver", [Euler(0.5), Anderson(3)], ids=str)
def test_solvers_agree_on_any_field(solver):
    settling = dataclasses.replace(TIGHT, solver=solver)
    for field in (gated(), sparse(1)):
        x, _ = batch(field)
        got, expected = (
            free_phase(field, x, settling=settling),
            free_phase(field, x, settling=TIGHT),
        )
        torch.testing.assert_close(got.s, expected.s, atol=1e-11, rtol=0)


def test_holomorphic_asks_a_field_and_pooling_for_an_extension():
    x, y = batch(gated())
    with pytest.raises(InputError, match="holomorphic=True"):
        Holomorphic(TIGHT)(gated(), x, y, COST)
    assert errors(gated(holomorphic=True), Holomorphic(TIGHT, beta=0.1))[0] > 1e-3
    bent = convolutional("max")
    with pytest.raises(InputError, match=r"pooling of forward\.1 is not analytic"):
        Holomorphic(TIGHT)(bent, *batch(bent), COST)


def test_kolen_pollack_pairs_kernels_and_refuses_what_has_no_pairs():
    field = convolutional("average")
    assert field.partners() == {"feedback.1": "forward.2", "feedback.2": "forward.3"}
    x, y = batch(field)
    got = KolenPollack(TIGHT, decay=0.0)(field, x, y, COST).updates
    torch.testing.assert_close(got["feedback.1"], got["forward.2"])  # kernels of one shape
    torch.testing.assert_close(got["feedback.2"], got["forward.3"].T)
    with pytest.raises(InputError, match="pairs of feedforward and feedback parameters"):
        KolenPollack(TIGHT)(gated(), *batch(gated()), COST)


def test_homeostasis_lowers_the_asymmetry_of_any_field():
    for field in (gated(n=8), dale(), sparse(2)):
        x, _ = batch(field)
        s, drive = free_phase(field, x, settling=TIGHT).s, field.drive(x)
        before = exact_asymmetry(field.linearise(s, drive)).ratio
        for name, update in field.symmetrising_update(s, drive, torch.Generator()).items():
            field.parameters[name].add_(update, alpha=0.05)
        assert exact_asymmetry(field.linearise(s, drive)).ratio < before


@pytest.mark.parametrize("graphs", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_the_bound_holds_on_random_graphs(graphs):
    compared = 0
    for seed in range(graphs):
        field = sparse(seed) if seed % 2 else gated(seed, n=6 + seed % 7)
        x, y = batch(field, seed=seed)
        report = check_gradients(
            field, x, y, COST, ["vector-field"], [1e-4], ["implicit"], settling=TIGHT
        )
        for row in report.rows:
            if row.relative_error is not None:
                compared += 1
                assert row.bound is not None
                assert row.relative_error <= row.bound * (1 + 1e-6) + 1e-6, (seed, row)
    assert compared > 3 * graphs
