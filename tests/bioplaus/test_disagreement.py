"""Two oracles by default, and a word where they disagree."""

from __future__ import annotations

import pytest

from bioplaus import check_gradients
from bioplaus.fields import LeakyField
from bioplaus.gradient_check import allowed_difference
from bioplaus.phases import Settling
from tests.fields import TIGHT, problem


def test_two_oracles_agree_by_default_and_a_wrong_one_is_seen(monkeypatch):
    p = problem()
    report = check_gradients(p.field, p.x, p.y, estimators=["asym-ep"], settling=TIGHT)
    assert [r.oracle for r in report.rows if r.parameter == "all"] == ["implicit", "unrolled"]
    assert all(row.oracle_difference < 1e-11 and row.reason is None for row in report.rows)
    assert report.agreement == 100 * TIGHT.tolerance
    rule = LeakyField.local_update

    def wrong(self, *args, **kw):
        return {name: 1.01 * update for name, update in rule(self, *args, **kw).items()}

    # what the estimates and one oracle share is wrong, and autograd does not share it
    monkeypatch.setattr(LeakyField, "local_update", wrong)
    report = check_gradients(p.field, p.x, p.y, estimators=["asym-ep"], betas=[1e-4])
    assert {row.reason for row in report.rows} == {"oracles disagree"}
    assert all(row.oracle_difference == pytest.approx(0.01, rel=0.02) for row in report.rows)
    whole = [r for r in report.rows if (r.parameter, r.oracle) == ("all", "implicit")]
    assert [row.relative_error < 1e-5 for row in whole] == [True]
    assert all(row.compared for row in report.rows)
    assert "largest difference 0.01, tolerance 1e-08" in report.explain("oracles disagree")


def test_oracles_that_stop_early_are_said_to_disagree():
    # a loop close to instability multiplies a residual by about 40
    p = problem(sizes=(5, 20, 20, 4), angle=0.0, activation="linear", gain=0.44)
    settling = Settling(tolerance=1e-2, free_steps=20_000, nudged_steps=20_000)
    report = check_gradients(p.field, p.x, p.y, estimators=["asym-ep"], settling=settling)
    limit = 0.01  # 1 %, also where 100 times the tolerance is more
    assert report.agreement == limit
    whole = [row for row in report.rows if row.parameter == "all"]
    assert any(row.oracle_difference > limit for row in whole)
    for row in report.rows:
        assert (row.reason == "oracles disagree") == (row.oracle_difference > limit)


@pytest.mark.parametrize(
    ("tolerance", "allowed"), [(1e-10, 1e-8), (1e-5, 1e-3), (1e-3, 0.01), (0.01, 0.01), (0.1, 0.1)]
)
def test_oracles_are_never_allowed_more_than_a_percent_or_the_tolerance(tolerance, allowed):
    assert allowed_difference(tolerance) == pytest.approx(allowed, rel=1e-12)
