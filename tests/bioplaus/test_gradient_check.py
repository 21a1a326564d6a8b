"""The report: its measures, the bound that is never broken, tied weights, unconverged phases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus import check_gradients, estimate_gradient
from bioplaus.errors import InputError
from bioplaus.gradient_check import record_type, records
from bioplaus.phases import Settling
from bioplaus.solvers import Sweeps
from tests.fields import TIGHT, clipped, problem


def only(report, **kw):
    """The one row with these values."""
    rows = [r for r in report.rows if all(getattr(r, k) == v for k, v in kw.items())]
    assert len(rows) == 1
    return rows[0]


def test_exact_estimator_has_no_error_and_the_other_a_floor():
    p = problem(sizes=(10, 30, 20, 10), asymmetry=1.0, gain=0.35, feedback_gain=1.0)
    report = check_gradients(p.field, p.x, p.y, betas=[1e-2, 1e-3], settling=TIGHT)
    exact = only(report, estimator="asym-ep", beta=1e-3, parameter="all")
    assert exact.relative_error < 1e-5
    assert exact.angle_degrees < 1e-3
    assert exact.norm_ratio == pytest.approx(1, abs=1e-5)
    assert exact.converged == 1
    floor = only(report, estimator="vector-field", beta=1e-3, parameter="all")
    assert floor.relative_error > 0.01
    assert floor.relative_error < floor.bound
    assert floor.bound_over_error == pytest.approx(floor.bound / floor.relative_error)
    assert report.asymmetry["probes"] == 0
    assert report.asymmetry["ratio"] > 0
    assert {r.parameter for r in report.rows} == {"all", *p.field.parameters}
    assert report.unconverged == ()


def test_measures_of_a_known_pair():
    from bioplaus.gradient_check import _measures

    m = _measures(torch.tensor([3.0, 0.0, -1.0]), torch.tensor([0.0, 4.0, -1.0]))
    assert m["cosine"] == pytest.approx(1 / math.sqrt(10 * 17))
    assert m["angle_degrees"] == pytest.approx(math.degrees(math.acos(1 / math.sqrt(170))))
    assert m["relative_error"] == pytest.approx(5 / math.sqrt(17))
    assert m["norm_ratio"] == pytest.approx(math.sqrt(10 / 17))
    assert m["sign_agreement"] == pytest.approx(1 / 3)
    assert m["rmse"] == pytest.approx(5 / math.sqrt(3))
    opposite = _measures(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0]))
    assert opposite["angle_degrees"] == pytest.approx(180, abs=1e-9)


NETWORKS = given(
    seed=st.integers(0, 2**31),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    activation=st.sampled_from(["tanh", "sigmoid", "sigmoid-4s-2", "softplus", "clipped"]),
    asymmetry=st.floats(0, 2),
    tied=st.booleans(),
    coordinates=st.sampled_from(["membrane", "activity"]),
    linear_output=st.booleans(),
    cost=st.sampled_from(["squared-error", "cross-entropy"]),
)


def above_the_bound(seed, hidden, activation, asymmetry, tied, coordinates, linear_output, cost):
    kw = {"activation": activation, "coordinates": coordinates, "linear_output": linear_output}
    if activation == "clipped":
        kw = clipped(linear_output=linear_output)
    kw |= {"tied": True} if tied else {"asymmetry": asymmetry, "feedback_gain": 1.0}
    p = problem(sizes=(3, *hidden, 2), batch=2, seed=seed, gain=0.3, **kw)
    tight = Settling(Sweeps(), 1e-13, 400, 400)
    # the limit of the vector field, (dmu/dtheta)^T J^-1 c, by a beta that no wall is met with
    beta = 1e-4
    report = check_gradients(
        p.field, p.x, p.y, cost, ["vector-field"], [beta], settling=tight, seed=1
    )
    above = []
    for row in report.rows:
        # what the difference quotient adds: O(beta^2), and residuals divided by beta
        entries = [q.numel() for k, q in p.field.parameters.items() if row.parameter in ("all", k)]
        error = row.rmse * math.sqrt(sum(entries))
        if error == 0:
            continue
        size = error / row.relative_error
        rounding = 1e-6 * size + 10 * row.residual / beta
        if not error <= row.bound * size * (1 + 1e-9) + rounding:
            above.append(row)
    return above


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@NETWORKS
def test_the_bound_is_never_below_the_error(**network):
    assert above_the_bound(**network) == []


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, database=None)
@NETWORKS
def test_the_bound_is_never_below_the_error_of_two_thousand_networks(**network):
    assert above_the_bound(**network) == []


def test_tied_weights_are_exact_in_activity_coordinates_only():
    # J_s = W D - 1 is not symmetric for symmetric W: with u the membrane and r = rho(u),
    # J^-1 c differs from J^-T c. But D J^-1 = J^-T D, and D c = c on linear outputs: the change
    # of the activities is the adjoint.
    for coordinates, exact in (("activity", True), ("membrane", False)):
        p = problem(
            sizes=(8, 30, 20, 10),
            tied=True,
            coordinates=coordinates,
            gain=0.3,
            activation="sigmoid-4s-2",
        )
        report = check_gradients(
            p.field, p.x, p.y, estimators=["vector-field"], betas=[1e-4], settling=TIGHT
        )
        row = only(report, parameter="all")
        assert (1 - row.cosine < 1e-9) is exact
        assert (row.relative_error < 1e-6) is exact


def test_oracles_can_be_compared_like_estimators():
    p = problem()
    report = check_gradients(
        p.field,
        p.x,
        p.y,
        estimators=["recurrent-backprop", "unrolled"],
        oracles=["implicit", "finite-difference"],
        settling=TIGHT,
    )
    assert len(report.rows) == 2 * 2 * (1 + len(p.field.parameters))
    assert all(r.relative_error < 1e-7 and math.isnan(r.beta) for r in report.rows)


def test_unconverged_phases_are_reported():
    p = problem()
    short = Settling(Sweeps(), 1e-12, 4, 4)
    report = check_gradients(p.field, p.x, p.y, settling=short)
    assert len(report.unconverged) == len(report.rows)
    assert report.rows[0].residual > 1e-12


def test_float32_and_large_states_use_products_only():
    p = problem(sizes=(10, 200, 150, 10), dtype=torch.float32)
    report = check_gradients(p.field, p.x.float(), p.y.float())
    assert report.asymmetry["probes"] > 0
    assert report.asymmetry["standard_error"] > 0
    assert only(report, estimator="asym-ep", parameter="all").relative_error < 1e-2


def test_labels_are_targets_too():
    p = problem()
    by_label = check_gradients(p.field, p.x, p.y.argmax(1), settling=TIGHT)
    by_target = check_gradients(p.field, p.x, p.y, settling=TIGHT)
    assert by_label.rows == by_target.rows


def test_rows_become_records():
    p = problem()
    report = check_gradients(p.field, p.x, p.y, settling=TIGHT)
    kind = record_type(["vector-field", "asym-ep"], ["implicit"], p.field.parameters)
    made = records(kind, report.asymmetry, report.rows, step=7)
    assert len(made) == len(report.rows)
    assert (made[0].step, made[0].estimator) == (7, "vector-field")
    assert made[0].asymmetry == report.asymmetry["ratio"]


def test_front_door_estimate():
    p = problem()
    estimate = estimate_gradient(p.field, p.x, p.y, estimator="asym-ep", beta=1e-3, settling=TIGHT)
    truth = estimate_gradient(p.field, p.x, p.y, estimator="implicit", settling=TIGHT)
    for name, update in estimate.updates.items():
        torch.testing.assert_close(update, truth.updates[name], atol=1e-6, rtol=1e-4)


def test_bad_input():
    p = problem()
    with pytest.raises(InputError, match="'backprop' is unknown; use one of vector-field"):
        check_gradients(p.field, p.x, p.y, estimators=["backprop"])
    with pytest.raises(InputError, match="oracle='vector-field' is unknown; use one of implicit"):
        check_gradients(p.field, p.x, p.y, oracles=["vector-field"])
    with pytest.raises(InputError, match="beta=0"):
        check_gradients(p.field, p.x, p.y, betas=[0.0])
    with pytest.raises(InputError, match="at least one"):
        check_gradients(p.field, p.x, p.y, betas=[])
