"""The update and its limits: the paper's claims, checked against dense linear algebra."""

import numpy as np
import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import (
    AsymEP,
    Continual,
    Dyadic,
    Holomorphic,
    Homeostasis,
    KolenPollack,
    VectorFieldEP,
)
from bioplaus.nudging import Layered, Nudge
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Status, Sweeps
from tests.fields import (
    SMOOTH,
    TIGHT,
    clipped,
    flat,
    parameter_product,
    problem,
    vector_field_limit,
)

COST = get_cost("squared-error")
ZOO = [*({"activation": name} for name in SMOOTH), {"tied": True}, {"sizes": (6, 9, 4)}]


@pytest.mark.parametrize("kw", [*ZOO, clipped()], ids=str)
def test_update_is_the_parameter_product_of_the_centered_difference(kw):
    p, beta = problem(**kw), 0.01
    estimate = VectorFieldEP(TIGHT, beta=beta)(p.field, p.x, p.y, COST)
    plus, minus = (phase.s for phase in estimate.nudged)
    if "coordinates" in kw:  # the claim needs no unit to meet a wall within beta
        inside = (estimate.free.s > 0) & (estimate.free.s < 1)
        hidden = slice(0, p.field.output.start)
        assert (((plus > 0) & (plus < 1)) == inside)[:, hidden].all()
    expected = parameter_product(p, estimate.free.s, (plus - minus) / (2 * beta))
    torch.testing.assert_close(flat(estimate.updates), flat(expected), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kw", ZOO, ids=str)
@pytest.mark.parametrize(("nudging", "order"), [("centered", 2.0), ("one-sided", 1.0)])
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_order_of_convergence_in_beta(kw, nudging, order, cost):
    p, cost = problem(**kw), get_cost(cost)
    exact = vector_field_limit(p, cost)
    betas = (0.04, 0.02, 0.01)
    errors = []
    for beta in betas:
        estimate = VectorFieldEP(TIGHT, beta=beta, nudging=nudging)(p.field, p.x, p.y, cost)
        errors.append((flat(estimate.updates) - exact).norm() / exact.norm())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(np.abs(orders - order) < 0.2), orders


@pytest.mark.parametrize("kw", [*ZOO, clipped(seed=1)], ids=str)
@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_a_small_step_along_the_update_lowers_the_cost(kw, cost):
    p, cost = problem(angle=20.0, **kw) if "tied" not in kw else problem(**kw), get_cost(cost)
    estimate = VectorFieldEP(TIGHT, beta=0.1)(p.field, p.x, p.y, cost)

    def mean_cost():
        s = free_phase(p.field, p.x, settling=TIGHT).s
        return cost.value(s[:, p.field.output], p.y).mean()

    before = mean_cost()
    for name, update in estimate.updates.items():
        p.field.parameters[name].add_(update, alpha=1e-2)
    assert mean_cost() < before


def test_positive_beta_pulls_the_outputs_toward_the_target():
    p = problem()
    free = free_phase(p.field, p.x, settling=TIGHT).s
    drive = p.field.drive(p.x)
    values = [
        COST.value(
            nudged_phase(p.field, drive, free, COST, p.y, beta, settling=TIGHT).s[
                :, p.field.output
            ],
            p.y,
        )
        for beta in (-0.2, 0.2)
    ]
    unnudged = COST.value(free[:, p.field.output], p.y)
    assert (values[1] < unnudged).all()
    assert (unnudged < values[0]).all()


def test_random_sign_draws_a_sign_for_each_row_and_averages_to_the_centered_estimate():
    p = problem(batch=3)
    make = lambda seed: VectorFieldEP(  # noqa: E731
        TIGHT, beta=0.2, nudging="random-sign", generator=torch.Generator().manual_seed(seed)
    )
    draws = [flat(make(seed)(p.field, p.x, p.y, COST).updates) for seed in range(60)]
    centered = flat(VectorFieldEP(TIGHT, beta=0.2)(p.field, p.x, p.y, COST).updates)
    one_sided = flat(
        VectorFieldEP(TIGHT, beta=0.2, nudging="one-sided")(p.field, p.x, p.y, COST).updates
    )
    distinct = {tuple(d.tolist()) for d in draws}
    assert len(distinct) == 8  # 2 ** 3 sign patterns
    mean = torch.tensor(sorted(distinct), dtype=torch.float64).mean(0)
    torch.testing.assert_close(mean, centered, atol=1e-9, rtol=0)
    assert (one_sided - centered).norm() > 1e-3 * centered.norm()


def test_rows_above_the_gate_do_not_enter():
    p = problem(batch=6)
    settling = Settling(Sweeps(), tolerance=1e-9, free_steps=3, nudged_steps=40)
    loose = VectorFieldEP(settling, beta=0.1)(p.field, p.x, p.y, COST)
    gate = float(loose.free.residual.median())
    estimate = VectorFieldEP(settling, beta=0.1, gate=gate)(p.field, p.x, p.y, COST)
    assert 0 < int(estimate.accepted.sum()) < 6
    assert torch.equal(estimate.accepted, loose.free.residual <= gate)
    plus, minus = (phase.s for phase in loose.nudged)
    delta = (plus - minus) / 0.2 * estimate.accepted[:, None]
    expected = p.field.local_update(p.x, loose.free.s, delta)
    torch.testing.assert_close(flat(estimate.updates), flat(expected), atol=1e-12, rtol=0)


def test_a_row_that_diverges_leaves_the_others_alone():
    p = problem(batch=3)
    bad = p.x.clone()
    bad[1] = 1e30
    estimate = VectorFieldEP(TIGHT, beta=0.1)(p.field, bad, p.y, COST)
    assert estimate.accepted.tolist() == [True, False, True]
    assert Status(int(estimate.free.status[1])) is Status.DIVERGED
    good = VectorFieldEP(TIGHT, beta=0.1)(p.field, p.x[[0, 2]], p.y[[0, 2]], COST)
    # the mean counts the rejected row as zero
    torch.testing.assert_close(flat(estimate.updates), flat(good.updates) * 2 / 3)


def test_no_autograd_graph_is_built():
    p = problem()
    for parameter in p.field.parameters.values():
        parameter.requires_grad_()
    estimate = VectorFieldEP(TIGHT, beta=0.1)(p.field, p.x, p.y, COST)
    assert not any(u.requires_grad for u in estimate.updates.values())
    assert not estimate.free.s.requires_grad


def test_free_phase_given_is_used():
    p = problem()
    free = free_phase(p.field, p.x, settling=TIGHT)
    estimate = VectorFieldEP(TIGHT, beta=0.1)(p.field, p.x, p.y, COST, free=free)
    assert estimate.free is free


def test_phases_of_float32_stay_float32():
    p = problem(dtype=torch.float32)
    x, y = p.x.float(), p.y.float()
    estimate = VectorFieldEP(Settling(tolerance=1e-5), beta=0.1)(p.field, x, y, COST)
    assert estimate.free.s.dtype == torch.float32
    assert all(u.dtype == torch.float32 for u in estimate.updates.values())
    assert estimate.free.converged.all()


def test_force_after_settling_is_the_force():
    p = problem()
    drive = p.field.drive(p.x)
    nudge = Nudge(get_cost("cross-entropy"), p.y, torch.full((4, 1), 0.4, dtype=torch.float64))
    for dynamics in (Layered(p.field, drive), Layered(p.field, drive, nudge)):
        s = p.field.initial_state(drive)
        for group in dynamics.groups:
            dynamics.settle(s, group)
        short = dynamics.force_after_settling(s, torch.empty_like(s))
        full = dynamics.force(s, torch.empty_like(s))
        torch.testing.assert_close(short, full, atol=1e-14, rtol=0)


def test_bad_settings():
    with pytest.raises(InputError, match=r"beta=0 has no nudge"):
        VectorFieldEP(beta=0.0)
    with pytest.raises(InputError, match="'both': use one of one-sided, centered, random-sign"):
        VectorFieldEP(nudging="both")
    p = problem()
    with pytest.raises(InputError, match="beta=0 has no nudge"):
        nudged_phase(p.field, p.field.drive(p.x), torch.zeros(4, p.field.n), COST, p.y, 0.0)


STRONG = [
    (VectorFieldEP, {"nudging": "centered"}, "squared-error", 1.0),
    (AsymEP, {"nudging": "random-sign"}, "squared-error", 1.0),
    (VectorFieldEP, {"nudging": "one-sided"}, "squared-error", -1.0),
    (Continual, {}, "cross-entropy", 2.0),
    (Homeostasis, {}, "cross-entropy", 2.5),
    (KolenPollack, {}, "squared-error", 1.5),
    (Dyadic, {}, "squared-error", 2.0),
    (Holomorphic, {"points": 4}, "squared-error", 1.0),
    (Holomorphic, {"points": 3}, "squared-error", 2.0),
]


@pytest.mark.parametrize(("kind", "kw", "cost", "beta"), STRONG, ids=str)
def test_a_nudge_that_outgrows_the_leak_is_refused_by_name(kind, kw, cost, beta):
    p = problem()
    with pytest.raises(InputError, match=rf"beta={abs(beta):g} .*'{kind.name}'.*below"):
        kind(TIGHT, beta=beta, **kw)(p.field, p.x, p.y, get_cost(cost))
    weaker = kind(TIGHT, beta=0.5 * beta, **kw)
    assert weaker(p.field, p.x, p.y, get_cost(cost)).accepted.all()


def test_a_strong_nudge_toward_the_target_is_none_of_it():
    p = problem()
    for estimator in (
        VectorFieldEP(TIGHT, beta=3.0, nudging="one-sided"),
        Holomorphic(TIGHT, beta=3.0, points=1),
    ):
        estimate = estimator(p.field, p.x, p.y, get_cost("squared-error"))
        assert estimate.nudged[0].converged.all()
