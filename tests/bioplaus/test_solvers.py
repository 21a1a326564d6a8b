"""The loop apart from the mathematics (stub dynamics), and the solvers against scipy."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from torch import Tensor

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.nudging import Layered, Nudge
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import (
    SOLVERS,
    Anderson,
    Euler,
    Status,
    Sweeps,
    SymmetricSweeps,
    get_solver,
    loop,
    solve,
)
from bioplaus.solvers.base import AbstractDynamics
from tests.fields import clipped, largest_real_part, problem


@dataclass
class Decay(AbstractDynamics):
    """F(s) = -rate s + 1 with a rate a row: the residual of every step is known in closed form."""

    rate: Tensor
    calls: list
    groups = ((0,),)
    order = (0,)

    def force(self, s, out):
        self.calls.append(len(s))
        return torch.sub(1.0, self.rate * s, out=out)

    def force_after_settling(self, s, out):
        return self.force(s, out)

    def settle(self, s, group):
        s.copy_((1.0 / self.rate).expand_as(s))

    def shift(self, s, group, step):
        s.add_(step)

    def take(self, rows):
        return Decay(self.rate[rows], self.calls)

    def precise(self):
        return self


def _decay(*rates):
    return Decay(torch.tensor(rates, dtype=torch.float64)[:, None], [])


def test_rows_finish_one_by_one_and_are_left_alone():
    dynamics = _decay(1.0, 0.5, 0.1)
    start = torch.full((3, 2), 3.0, dtype=torch.float64)
    end = solve(dynamics, start, Euler(1.0), tolerance=1e-3, max_steps=1000)
    assert end.converged.all()
    # row 0 lands on its fixed point at once; the others shrink their error by 1 - rate a step
    assert end.n_steps[0] == 1
    assert end.n_steps[0] < end.n_steps[1] < end.n_steps[2]
    for row, rate in enumerate((1.0, 0.5, 0.1)):
        expected = start[row]
        for _ in range(int(end.n_steps[row])):
            expected = expected + (1 - rate * expected)
        torch.testing.assert_close(end.s[row], expected, atol=0, rtol=0)
    # finished rows are no longer computed
    assert dynamics.calls[0] == 3
    assert dynamics.calls[-1] == 1


class Carried(Decay):
    """Rows that have ended stay in the batch while more than `least` rows continue."""

    least = 0

    def worth_taking(self, left, rows):
        return left <= self.least

    def take(self, rows):
        return type(self)(self.rate[rows], self.calls)


@pytest.mark.parametrize("least", [0, 2])
def test_rows_that_have_ended_stay_as_they_are_while_they_are_carried_along(least, monkeypatch):
    monkeypatch.setattr(Carried, "least", least)
    rates = torch.tensor([[1.0], [-3.0], [0.5], [torch.nan], [0.2], [0.1]], dtype=torch.float64)
    start = torch.full((6, 2), 3.0, dtype=torch.float64)
    common = {"tolerance": 1e-3, "max_steps": 60}
    apart = solve(Decay(rates, calls := []), start, Euler(0.9), **common)
    along = solve(Carried(rates, kept := []), start, Euler(0.9), **common)
    assert torch.equal(along.n_steps, apart.n_steps)
    assert torch.equal(along.status, apart.status)
    for name in ("s", "residual"):
        ours, theirs = getattr(along, name), getattr(apart, name)
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0, equal_nan=True)
    assert len(calls) == len(kept)
    assert all(of_all >= some for of_all, some in zip(kept, calls, strict=True))
    assert sum(kept) > sum(calls)
    assert torch.equal(start, torch.full_like(start, 3.0))


def test_residual_is_that_of_the_state_returned():
    for tolerance, steps in ((1e-3, 1000), (0.0, 7)):
        dynamics = _decay(0.9, 0.3)
        end = solve(
            dynamics,
            torch.ones(2, 3, dtype=torch.float64),
            Euler(0.5),
            tolerance=tolerance,
            max_steps=steps,
        )
        force = dynamics.force(end.s, torch.empty_like(end.s))
        torch.testing.assert_close(end.residual, force.norm(dim=1) / end.s.norm(dim=1))


def test_tolerance_zero_takes_exactly_the_steps_and_measures_once():
    dynamics = _decay(0.3)
    end = solve(
        dynamics, torch.zeros(1, 2, dtype=torch.float64), Euler(0.1), tolerance=0.0, max_steps=25
    )
    assert end.n_steps.tolist() == [25]
    assert end.status.tolist() == [Status.MAX_STEPS]
    assert len(dynamics.calls) == 26


def test_looks_every_few_steps_only():
    counts = {}
    for every in (1, 4):
        dynamics = _decay(0.2)
        end = solve(
            dynamics,
            torch.zeros(1, 1, dtype=torch.float64),
            Euler(0.5),
            tolerance=1e-6,
            max_steps=500,
            check_every=every,
        )
        counts[every] = int(end.n_steps)
    assert counts[1] <= counts[4] < counts[1] + 4
    assert (counts[4] - 1) % 4 == 0


def test_divergence_and_nan_are_told_row_by_row():
    dynamics = _decay(-3.0, 0.5, float("nan"))
    end = solve(
        dynamics, torch.ones(3, 2, dtype=torch.float64), Euler(1.0), tolerance=1e-8, max_steps=200
    )
    assert [Status(int(c)) for c in end.status] == [
        Status.DIVERGED,
        Status.CONVERGED,
        Status.NON_FINITE,
    ]
    assert all(":" in Status(s).message for s in (1, 2, 3))


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"tolerance": float("nan")}, "tolerance=nan"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"check_every": 0}, "check_every=0"),
    ],
)
def test_bad_loop_settings(kw, message):
    with pytest.raises(InputError, match=message):
        solve(_decay(1.0), torch.ones(1, 1), Euler(), **({"tolerance": 1e-3, "max_steps": 5} | kw))


def test_bad_solver_settings():
    with pytest.raises(InputError, match="'newton' is unknown; use one of euler, sweeps, symm"):
        get_solver("newton")
    with pytest.raises(InputError, match=r"dt=0.0 must lie in \(0, 1\]"):
        get_solver("euler", dt=0.0)
    with pytest.raises(InputError, match="memory=0"):
        get_solver("anderson", memory=0)
    with pytest.raises(InputError, match="repeats=0 must be at least 1"):
        get_solver("symmetric-sweeps", repeats=0)


def _dynamics(p, beta):
    drive = p.field.drive(p.x)
    if beta is None:
        return Layered(p.field, drive)
    strength = torch.full((len(p.x), 1), beta, dtype=torch.float64)
    return Layered(p.field, drive, Nudge(get_cost("cross-entropy"), p.y, strength))


@pytest.mark.parametrize(
    "solver", [Euler(0.5), Euler(1.0), Sweeps(), SymmetricSweeps(), Anderson(5)], ids=str
)
@pytest.mark.parametrize("beta", [None, 0.3, -0.3])
@pytest.mark.parametrize("kw", [{}, clipped(), {"sizes": (6, 4)}, {"tied": True}], ids=str)
def test_all_solvers_reach_scipys_root(solver, beta, kw):
    p = problem(**kw)
    dynamics = _dynamics(p, beta)
    start = p.field.initial_state(p.field.drive(p.x))
    end = solve(dynamics, start, solver, tolerance=1e-12, max_steps=2000)
    assert end.converged.all()

    def residual(flat_state):
        s = torch.from_numpy(flat_state).reshape(start.shape)
        return dynamics.force(s, torch.empty_like(s)).numpy().ravel()

    root = scipy.optimize.root(residual, start.numpy().ravel(), method="hybr", tol=1e-13)
    np.testing.assert_allclose(end.s.numpy().ravel(), root.x, atol=1e-8)
    force = dynamics.force(end.s, torch.empty_like(end.s))
    torch.testing.assert_close(
        end.residual, force.norm(dim=1) / end.s.norm(dim=1), atol=1e-14, rtol=0.5
    )


def test_euler_follows_the_differential_equation():
    p = problem(batch=1)
    dynamics = _dynamics(p, None)
    start = torch.zeros(1, p.field.n, dtype=torch.float64)

    def rhs(_, y):
        s = torch.from_numpy(y)[None]
        return dynamics.force(s, torch.empty_like(s))[0].numpy()

    exact = scipy.integrate.solve_ivp(rhs, (0, 2), start[0].numpy(), rtol=1e-11, atol=1e-12).y[
        :, -1
    ]
    errors = []
    for dt in (0.02, 0.01, 0.005):
        end = solve(dynamics, start, Euler(dt), tolerance=0.0, max_steps=round(2 / dt))
        errors.append(np.linalg.norm(end.s[0].numpy() - exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1) < 0.1)


def test_sweeps_need_about_half_of_eulers_steps():
    p = problem(gain=1.0, feedback_gain=1.0, angle=0.0)
    start = p.field.initial_state(p.field.drive(p.x))
    steps = [
        solve(_dynamics(p, None), start, kind, tolerance=1e-10, max_steps=5000).n_steps.sum()
        for kind in (Euler(1.0), Sweeps())
    ]
    assert 1.6 < float(steps[0] / steps[1]) < 2.4


def test_warm_start_at_the_fixed_point_ends_after_the_reach():
    p = problem()
    first = solve(
        _dynamics(p, None),
        p.field.initial_state(p.field.drive(p.x)),
        Sweeps(),
        tolerance=1e-12,
        max_steps=500,
    )
    again = solve(_dynamics(p, None), first.s, Sweeps(), tolerance=1e-10, max_steps=500)
    assert again.n_steps.tolist() == [2] * 4  # three layers in two groups: two sweeps cross them
    torch.testing.assert_close(again.s, first.s, atol=1e-11, rtol=0)


ONCE_UNSETTLED = [{"angle": 120.0, "gain": 1.5}, {"angle": 180.0, "gain": 1.0}]
"""Networks of 6-10-10-4 tanh units that whole sweeps do not settle, and small Euler steps do."""


def _strong(seed=0, rows=48, **kw):
    g = torch.Generator().manual_seed(seed)
    field = LeakyField([6, 10, 10, 4], "tanh", generator=g, dtype=torch.float64, **kw)
    return field, torch.rand(rows, 6, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("kw", ONCE_UNSETTLED, ids=str)
@pytest.mark.parametrize("solver", [Sweeps(), Anderson(3), Euler(1.0)], ids=str)
def test_what_small_euler_steps_settle_settles_by_default(kw, solver):
    field, x = _strong(**kw)
    small = free_phase(field, x, settling=Settling(Euler(0.02), 1e-9, free_steps=20_000))
    assert small.converged.all()
    found = free_phase(field, x, settling=Settling(solver, 1e-9, free_steps=2000))
    assert found.converged.all()
    torch.testing.assert_close(found.s, small.s, atol=1e-6, rtol=0)
    # the steps of the attempt that failed count too
    assert found.n_steps.min() > 8


def test_whole_sweeps_alone_settle_none_of_them(monkeypatch):
    monkeypatch.setattr("bioplaus.solvers.loop.DAMPED", ())
    for kw in ONCE_UNSETTLED:
        field, x = _strong(**kw)
        found = free_phase(field, x, settling=Settling(Sweeps(), 1e-9, free_steps=2000))
        assert not found.converged.any()
        assert (found.n_steps == 2000).all()


def test_the_step_limit_holds_over_all_attempts():
    field, x = _strong(angle=120.0, gain=4.0)
    found = free_phase(field, x, settling=Settling(Sweeps(), 1e-9, free_steps=60))
    assert not found.converged.all()
    assert (found.n_steps <= 60).all()


def test_rows_that_converge_slowly_are_not_begun_again():
    dynamics = _decay(0.02)
    start = torch.zeros(1, 2, dtype=torch.float64)
    end = solve(dynamics, start, Euler(1.0), tolerance=1e-8, max_steps=5000)
    expected = math.log(50 * 1e-8) / math.log(0.98)  # s -> 50, its residual 0.98^t / 50
    assert abs(int(end.n_steps) - expected) < 2


def test_no_solver_rests_where_the_network_would_not():
    field, x = _strong(angle=0.0, gain=1.5)
    unverified = Settling(Anderson(3), 1e-10, free_steps=2000, verify=False)
    loose = free_phase(field, x, settling=unverified)
    leaves = largest_real_part(field, x, loose.s) > 0
    assert leaves.any()  # Anderson mixing alone does
    found = free_phase(field, x, settling=dataclasses.replace(unverified, verify=True))
    assert found.converged.all()
    exact = largest_real_part(field, x, found.s)
    assert (exact < 0).all()
    assert found.abscissa is not None
    torch.testing.assert_close(found.abscissa, exact, atol=1e-8, rtol=0)


def test_complex_anderson_needs_no_more_steps_than_sweeps():
    p = problem(sizes=(6, 12, 10, 4), gain=0.8, feedback_gain=0.8)
    complex_field = p.field.with_parameters(
        {k: w.to(torch.complex128) for k, w in p.field.parameters.items()}
    )
    drive = p.field.drive(p.x).to(torch.complex128)
    beta = torch.polar(torch.tensor(0.3), torch.tensor(1.0)).to(torch.complex128).expand(4, 1)
    dynamics = Layered(complex_field, drive, Nudge(get_cost("squared-error"), p.y, beta))
    start = complex_field.initial_state(drive)
    steps = {}
    for solver in (Sweeps(), Anderson(5)):
        end = solve(dynamics, start, solver, tolerance=1e-10, max_steps=500)
        assert end.converged.all()
        steps[type(solver)] = float(end.n_steps.float().mean())
    assert steps[Anderson] < 0.8 * steps[Sweeps]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 3), (4, 5, 6, 3)])
def test_a_batch_of_no_rows_ends_at_the_first_look(name, sizes, monkeypatch):
    p = problem(sizes=sizes)
    looks = []
    look_at = loop.look_at
    monkeypatch.setattr(loop, "look_at", lambda *args: looks.append(1) or look_at(*args))
    end = free_phase(p.field, p.x[:0], settling=Settling(get_solver(name)))
    assert end.s.shape == (0, p.field.n)
    assert end.converged.shape == (0,)
    assert len(looks) == 1
