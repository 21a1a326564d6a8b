"""The currents that a free phase keeps for the nudged one are those at its state."""

from dataclasses import dataclass

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.estimators import VectorFieldEP
from bioplaus.fields import Dense, LayeredField
from bioplaus.fields.connections import Lateral
from bioplaus.fields.layer import Layer
from bioplaus.nudging import deviations
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Anderson, DampedSweeps, Euler, Sweeps, SymmetricSweeps
from bioplaus.solvers.base import Solution
from tests.fields import TIGHT, clipped, problem

SOLVERS = [Sweeps(), SymmetricSweeps(), DampedSweeps(0.5), Euler(0.5), Anderson()]
SIZES = [(6, 7, 3), (6, 7, 5, 3), (6, 9, 8, 7, 6, 3)]


def assert_currents_at_state(field: LayeredField, x: torch.Tensor, free: Solution) -> None:
    r, drive = [field.activity(s, k) for k, s in enumerate(field.split(free.s))], field.drive(x)
    assert free.currents is not None
    for k, here in enumerate(field.layers):
        if field.is_boxed(k):
            wanted = field.current(r, drive, k)
            torch.testing.assert_close(free.currents[:, here], wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("most", [3, 200])
def test_the_currents_are_those_at_the_state(solver, sizes, most):
    p = problem(sizes, batch=20, **clipped())
    free = free_phase(p.field, p.x, settling=Settling(solver, 1e-3, free_steps=most))
    assert_currents_at_state(p.field, p.x, free)


@pytest.mark.parametrize("solver", [Sweeps(), SymmetricSweeps(), Euler(1.0), Anderson()], ids=str)
@pytest.mark.parametrize("most", [28, 36, 3000])  # the first two end retries early
def test_also_of_rows_that_another_solver_finished(solver, most):
    # feedback that opposes the input: full steps cycle, and damped ones settle
    p = problem((6, 10, 10, 4), batch=20, **clipped(angle=150.0, gain=2.0, feedback_gain=1.5))
    free = free_phase(p.field, p.x, settling=Settling(solver, 1e-4, free_steps=most))
    assert free.n_steps.max() > 8
    assert_currents_at_state(p.field, p.x, free)


def test_a_layer_that_acts_on_itself_keeps_its_current():
    layers = [Layer(7, "clipped"), Layer(5, "clipped"), Layer(3, "linear")]
    up, down = [Dense(0, 1), Dense(1, 2), Dense(2, 3)], [Dense(2, 1, gain=0.3)]
    g = torch.Generator().manual_seed(0)
    connections = [*up, *down, Lateral(1, gain=0.2)]
    field = LayeredField(6, layers, connections, generator=g, dtype=torch.float64)
    x = torch.rand(5, 6, generator=g, dtype=torch.float64)
    free = free_phase(field, x, settling=Settling(Sweeps(), 1e-6))
    assert_currents_at_state(field, x, free)


def test_an_estimator_need_not_take_the_currents():
    @dataclass(frozen=True)
    class Old(VectorFieldEP):
        def dynamics(self, field, drive, nudge, free):
            return deviations(field, drive, nudge, free)

    p = problem((6, 7, 5, 3), **clipped())
    found, wanted = (
        kind(TIGHT, beta=0.3)(p.field, p.x, p.y, get_cost("cross-entropy"))
        for kind in (Old, VectorFieldEP)
    )
    for name, update in wanted.updates.items():
        torch.testing.assert_close(found.updates[name], update, rtol=0, atol=1e-12)


def test_a_column_of_beta_may_have_another_dtype():
    p, cost = problem((6, 7, 5, 3), **clipped()), get_cost("cross-entropy")
    free, drive = free_phase(p.field, p.x, settling=TIGHT).s, p.field.drive(p.x)
    wanted = nudged_phase(p.field, drive, free, cost, p.y, 0.5, settling=TIGHT)
    column = torch.full((len(free), 1), 0.5, dtype=torch.float32)
    found = nudged_phase(p.field, drive, free, cost, p.y, column, settling=TIGHT)
    torch.testing.assert_close(found.s, wanted.s, rtol=0, atol=1e-12)
