"""Estimates of the gradient in Brian2 against those of torch."""

from __future__ import annotations

import pytest
import torch

from bioplaus.costs import SquaredError
from bioplaus.engines import Brian2
from bioplaus.errors import InputError
from bioplaus.estimators import VectorFieldEP, estimate_gradient
from bioplaus.gradient_check import check_gradients
from bioplaus.phases import Settling
from tests.engines import require_brian2
from tests.fields import TIGHT, clipped, flat, problem

require_brian2()


def brian2(**kw) -> Settling:
    return Settling(Brian2(**kw), 1e-10, 1000, 1000)


@pytest.mark.parametrize("estimator", ["vector-field", "asym-ep"])
@pytest.mark.parametrize(
    ("settings", "cost"),
    [
        ({"activation": "tanh"}, "squared-error"),
        ({"activation": "sigmoid", "coordinates": "activity", "tied": True}, "cross-entropy"),
        (clipped(), "cross-entropy"),
    ],
)
def test_updates_are_those_of_torch(settings, cost, estimator):
    p = problem(**settings)
    y = p.y + 0.1  # not of sum 1
    theirs, ours = (
        estimate_gradient(p.field, p.x, y, cost, estimator, beta=0.05, settling=settling)
        for settling in (brian2(), TIGHT)
    )
    assert all(bool(phase.converged.all()) for phase in (theirs.free, *theirs.nudged))
    for name, update in theirs.updates.items():
        u, v = update.flatten(), ours.updates[name].flatten()
        assert float(u @ v / (u.norm() * v.norm())) > 1 - 1e-6, name
    torch.testing.assert_close(flat(theirs.updates), flat(ours.updates), rtol=0, atol=1e-6)


@pytest.mark.parametrize("nudging", ["one-sided", "random-sign"])
def test_other_nudgings(nudging):
    p = problem(sizes=(6, 5, 3))
    settings = {"beta": 0.05, "nudging": nudging}
    theirs, ours = (
        estimate_gradient(
            *(p.field, p.x, p.y),
            settling=settling,
            generator=torch.Generator().manual_seed(1),
            **settings,
        )
        for settling in (brian2(), TIGHT)
    )
    torch.testing.assert_close(flat(theirs.updates), flat(ours.updates), rtol=0, atol=1e-6)


def test_float32_networks_run_too():
    p = problem(sizes=(6, 5, 3), dtype=torch.float32)
    estimate = estimate_gradient(
        p.field, p.x.float(), p.y.float(), settling=Settling(Brian2(), 1e-5, 400, 400)
    )
    assert all(u.dtype == torch.float32 for u in estimate.updates.values())


def test_a_check_takes_its_truth_from_torch():
    p = problem(sizes=(6, 5, 3))
    report = check_gradients(
        *(p.field, p.x, p.y),
        estimators=["asym-ep"],
        oracles=["implicit", "recurrent-backprop"],
        settling=brian2(),
        oracle_settling=TIGHT,
    )
    assert {row.oracle for row in report.rows} == {"implicit", "recurrent-backprop"}
    assert max(row.relative_error for row in report.rows) < 1e-3


@pytest.mark.parametrize("estimator", ["holomorphic", "dyadic"])
def test_dynamics_without_a_circuit_are_refused(estimator):
    p = problem(sizes=(6, 5, 3))
    with pytest.raises(InputError, match="no circuit for"):
        estimate_gradient(p.field, p.x, p.y, estimator=estimator, settling=brian2())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tau": "10 mV"}, "tau='10 mV' is not a time"),
        ({"tau": 10.0}, "tau=10.0 is not a time"),
        ({"tau": "10"}, "number and a unit"),
        ({"tau": "10 parsec"}, "number and a unit"),
        ({"tau": "-3 ms"}, "must be positive"),
        ({"dt": 1.5}, r"dt=1.5 must lie in \(0, 1\]"),
        ({"method": "heun"}, "method='heun' is unknown; use one of euler"),
        ({"target": "cpp_standalone"}, "use 'numpy' or 'cython'"),
        ({"target": "fortran"}, "target='fortran' is unknown"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Brian2(**settings)


class Doubled(SquaredError):
    """A user's cost that goes by the name of another."""

    def slope(self, s, y):
        return 2 * (s - y)


def test_a_cost_without_an_equation_is_refused():
    p = problem(sizes=(3, 4, 2))
    settling = Settling(Brian2(), 1e-6)
    for warm in (False, True):  # also once a circuit for the known cost is there
        if warm:
            VectorFieldEP(settling)(p.field, p.x, p.y, SquaredError())
        with pytest.raises(InputError, match="the cost Doubled; use one of squared-error"):
            VectorFieldEP(settling)(p.field, p.x, p.y, Doubled())
