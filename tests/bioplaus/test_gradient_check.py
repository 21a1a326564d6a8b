"""The report: its measures, the bound that is never broken, tied weights, unconverged phases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus import check_gradients
from bioplaus.errors import InputError
from bioplaus.gradient_check import default_oracles, weight_angles
from bioplaus.gradient_row import MEASURES, REASONS, Layout, measures, record_type, records
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Sweeps
from tests.fields import TIGHT, clipped, jacobian, problem


def only(report, **kw):
    """The one row against the first oracle with these values."""
    kw = {"oracle": "implicit"} | kw
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
    names = {"all", "feedforward", "feedback", *p.field.parameters}
    assert {r.parameter for r in report.rows} == names
    assert report.unconverged == ()
    assert report.reasons == {}


def test_measures_of_a_known_pair():
    m, wrong = measures(torch.tensor([3.0, 0.0, -1.0]), torch.tensor([0.0, 4.0, -1.0]))
    assert m["cosine"] == pytest.approx(1 / math.sqrt(10 * 17))
    assert m["angle_degrees"] == pytest.approx(math.degrees(math.acos(1 / math.sqrt(170))))
    assert m["relative_error"] == pytest.approx(5 / math.sqrt(17))
    assert m["norm_ratio"] == pytest.approx(math.sqrt(10 / 17))
    assert m["rmse"] == pytest.approx(5 / math.sqrt(3))
    assert wrong is None
    opposite, _ = measures(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0]))
    assert opposite["angle_degrees"] == pytest.approx(180, abs=1e-9)


def test_signs_are_compared_where_both_are_not_zero():
    e = torch.tensor([0.0, 0.0, 1.0, -2.0, 5.0, 0.0, -3.0, 4.0])
    t = torch.tensor([0.0, 0.0, 3.0, -1.0, -2.0, 1.0, 0.0, 7.0])
    m, _ = measures(e, t)
    assert m["nonzero_share"] == 4 / 8
    assert m["sign_agreement"] == 3 / 4
    apart, _ = measures(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert (apart["nonzero_share"], apart["sign_agreement"]) == (0.0, None)
    # random entries, most of them zero in both: half of the signs agree, not almost all
    g = torch.Generator().manual_seed(0)
    there = torch.rand(20_000, generator=g) < 0.2
    e, t = (torch.randn(20_000, generator=g) * there for _ in range(2))
    m, _ = measures(e, t)
    assert abs(m["sign_agreement"] - 0.5) < 0.03
    assert m["nonzero_share"] == pytest.approx(float(there.double().mean()))


@pytest.mark.parametrize(
    ("e", "t", "reason", "known"),
    [
        ([1.0, 2.0], [0.0, 0.0], "true gradient is zero", {"rmse", "nonzero_share"}),
        ([0.0, 0.0], [0.0, 0.0], "true gradient is zero", {"rmse", "nonzero_share"}),
        (
            [0.0, 0.0],
            [1.0, 2.0],
            "estimate is zero",
            {"rmse", "nonzero_share", "relative_error", "norm_ratio"},
        ),
        ([math.nan, 1.0], [1.0, 2.0], "not finite", set()),
        ([1.0, 1.0], [1.0, math.inf], "not finite", set()),
    ],
)
def test_what_cannot_be_compared_has_no_number(e, t, reason, known):
    m, wrong = measures(torch.tensor(e).double(), torch.tensor(t).double())
    assert wrong == reason
    assert {name for name, value in m.items() if value is not None} == known
    assert m.keys() == set(MEASURES)


def test_a_layout_splits_off_the_feedback_weights():
    p = problem()
    layout = Layout.of(p.field.parameters, p.field.partners())
    vector = layout.flat(p.field.parameters)
    for name, value in p.field.parameters.items():
        assert torch.equal(vector[layout.rows[name]], value.reshape(-1))
        assert layout.members(name) == [name]
    assert set(layout.members("feedback")) == set(p.field.partners())
    rest = set(p.field.parameters) - set(p.field.partners())
    assert set(layout.members("feedforward")) == rest
    assert set(layout.members("all")) == set(p.field.parameters)
    tied = problem(tied=True).field
    assert Layout.of(tied.parameters, tied.partners()).rows.keys() == {"all", *tied.parameters}


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
    # the limit of the vector field, (dmu/dtheta)^T J^-1 c, at a beta at which no unit meets a wall
    beta = 1e-4
    report = check_gradients(
        p.field, p.x, p.y, cost, ["vector-field"], [beta], ["implicit"], settling=tight, seed=1
    )
    above = []
    for row in report.rows:
        # what the difference quotient adds: O(beta^2), and residuals divided by beta
        here = Layout.of(p.field.parameters, p.field.partners()).rows[row.parameter]
        if not row.compared:
            continue
        error = row.rmse * math.sqrt(here.stop - here.start)
        if error == 0:
            continue
        size = error / row.relative_error
        rounding = 1e-6 * size + 10 * row.residual / beta
        if not error <= row.bound * size * (1 + 1e-9) + rounding:
            above.append(row)
    return above


@pytest.mark.slow
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
    p = problem(sizes=(4, 5, 3), batch=2)
    report = check_gradients(
        p.field,
        p.x,
        p.y,
        estimators=["recurrent-backprop", "unrolled"],
        oracles=["implicit", "finite-difference"],
        settling=TIGHT,
    )
    assert len(report.rows) == 2 * 2 * (3 + len(p.field.parameters))
    assert all(r.relative_error < 1e-7 and math.isnan(r.beta) for r in report.rows)


COMPARISONS = {*MEASURES, "bound", "bound_over_error", "oracle_difference"}


def nothing_compared(row):
    return all(getattr(row, name) is None for name in COMPARISONS)


def test_a_row_without_convergence_has_no_comparison():
    p = problem()
    short = Settling(Sweeps(), 1e-12, 4, 4)
    report = check_gradients(p.field, p.x, p.y, settling=short)
    assert len(report.unconverged) == len(report.rows)
    assert all(nothing_compared(row) and row.converged < 1 for row in report.rows)
    assert report.rows[0].residual > 1e-12
    assert {row.reason for row in report.rows} == {"free phase not converged"}
    assert not report.compared
    assert report.asymmetry["ratio"] is report.asymmetry["spectral_radius"] is None
    assert report.asymmetry["free_converged"] == 0
    assert report.asymmetry["weight_angle.1"] is not None
    assert "4 of 4 inputs" in report.explain("free phase not converged")


def test_nudged_phases_without_convergence_are_told_from_the_free_one():
    p = problem()
    report = check_gradients(
        p.field,
        p.x,
        p.y,
        estimators=["vector-field", "implicit"],
        settling=Settling(Sweeps(), 1e-10, 2000, 2),
    )
    reasons = {row.estimator: row.reason for row in report.rows}
    assert reasons == {"vector-field": "estimate not converged", "implicit": None}
    assert all(nothing_compared(r) is (r.estimator == "vector-field") for r in report.rows)
    assert report.asymmetry["ratio"] is not None
    assert report.compared


def slow_network():
    """Linear, symmetric, with a spectral radius of 0.993: the derivative is slow to unroll."""
    p = problem(
        sizes=(5, 20, 20, 4),
        activation="linear",
        angle=0.0,
        gain=0.488,
        feedback_gain=1.0,
        seed=4,
    )
    return p, Settling(Sweeps(), 1e-10, 20_000, 20_000)


def test_an_oracle_without_convergence_is_no_truth():
    p, settling = slow_network()
    report = check_gradients(
        p.field,
        p.x,
        p.y,
        estimators=["asym-ep"],
        betas=[1e-4],
        oracles=["unrolled", "implicit"],
        settling=settling,
    )
    unrolled = [row for row in report.rows if row.oracle == "unrolled"]
    assert all(nothing_compared(row) for row in unrolled)
    assert {row.reason for row in unrolled} == {"oracle not converged"}
    assert all(row.oracle_converged < 1 and row.converged == 1 for row in unrolled)
    assert all(row.oracle_residual > 1e-3 and row.residual > 1e-3 for row in unrolled)
    exact = only(report, parameter="all")
    assert exact.relative_error < 1e-4
    assert exact.oracle_difference is None  # the other oracle is no measure of this one


def test_a_point_that_is_left_when_disturbed_is_not_compared():
    # without input 0 is a zero of the field for any weight, and above w = 1 no attractor
    p = problem(sizes=(2, 1, 1), batch=3, angle=0.0)
    for name, value in p.field.parameters.items():
        value.fill_(1.5 if name in ("forward.2", "feedback.1") else 0.0)
    report = check_gradients(p.field, torch.zeros_like(p.x), p.y)
    assert all(nothing_compared(row) for row in report.rows)
    assert {row.reason for row in report.rows} == {"point not stable"}
    assert report.asymmetry["stability"] == pytest.approx(0.5)
    assert report.asymmetry["ratio"] is None
    assert all(row.stability == pytest.approx(0.5, abs=0.1) for row in report.rows)
    assert "largest real part 0.5, tolerance 0" in report.explain("point not stable")


def test_stability_is_the_largest_real_part_of_all_points():
    p = problem()
    report = check_gradients(p.field, p.x, p.y, estimators=["vector-field"], betas=[0.5])
    s = free_phase(p.field, p.x, settling=TIGHT).s
    free = torch.linalg.eigvals(jacobian(p, s)).real.max()
    assert report.asymmetry["stability"] == pytest.approx(float(free), abs=1e-6)
    row = only(report, parameter="all")
    # at -beta the curvature of the squared error works against the leak of the outputs
    assert float(free) < row.stability < 0


def test_large_networks_have_one_oracle():
    small, large = problem(), problem(sizes=(4, 290, 11))
    assert default_oracles(small.field) == ("implicit", "unrolled")
    assert default_oracles(large.field) == ("implicit",)


def test_kolen_pollack_follows_the_gradient_in_the_feedforward_weights():
    p = problem(asymmetry=0.3, sizes=(6, 20, 3))
    report = check_gradients(p.field, p.x, p.y, estimators=["vector-field", "kolen-pollack"])
    plain, rule = (
        {row: only(report, estimator=name, parameter=row) for row in ("feedforward", "feedback")}
        for name in ("vector-field", "kolen-pollack")
    )
    assert rule["feedforward"].angle_degrees == plain["feedforward"].angle_degrees
    assert rule["feedback"].angle_degrees > plain["feedback"].angle_degrees + 10
    assert only(report, estimator="kolen-pollack", parameter="all").angle_degrees is not None


def test_a_zero_gradient_has_no_angle():
    p = problem()
    settled = check_gradients(p.field, p.x, p.y, estimators=["implicit"], settling=TIGHT)
    assert settled.compared
    # the outputs are the targets: nothing to learn
    target = free_phase(p.field, p.x, settling=TIGHT).s[:, p.field.output]
    report = check_gradients(
        p.field, p.x, target, estimators=["implicit"], oracles=["implicit"], settling=TIGHT
    )
    assert not report.compared
    assert set(report.reasons) == {"true gradient is zero"}
    assert all(row.angle_degrees is row.relative_error is row.bound is None for row in report.rows)


def test_weight_angles_are_exact_and_none_for_zero_weights():
    field = problem(angle=0.0, feedback_gain=1.0, dtype=torch.float32).field
    assert weight_angles(field) == {"weight_angle.1": 0.0, "weight_angle.2": 0.0}
    field.parameters["feedback.1"].zero_()
    assert weight_angles(field)["weight_angle.1"] is None


def test_float32_and_large_states_use_products_only():
    p = problem(sizes=(10, 200, 150, 10), dtype=torch.float32)
    report = check_gradients(p.field, p.x.float(), p.y.float())
    assert {row.oracle for row in report.rows} == {"implicit"}
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
    kind = record_type(["vector-field", "asym-ep"], default_oracles(p.field), p.field.parameters)
    made = records(kind, report.asymmetry, report.rows, step=7)
    assert len(made) == len(report.rows)
    assert (made[0].step, made[0].estimator, made[0].reason) == (7, "vector-field", "")
    assert made[0].asymmetry == report.asymmetry["ratio"]
    short = check_gradients(p.field, p.x, p.y, settling=Settling(Sweeps(), 1e-12, 4, 4))
    left_out = records(kind, short.asymmetry, short.rows, step=7)[0]
    assert left_out.reason == "free phase not converged"
    assert all(math.isnan(getattr(left_out, name)) for name in (*COMPARISONS, "asymmetry"))
    assert len(set(REASONS)) == len(REASONS)


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
