"""Sweeps up and down a chain: the same fixed points from fewer products, honestly judged."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bioplaus.costs import get_cost
from bioplaus.estimators import AsymEP, VectorFieldEP
from bioplaus.fields import Dense, LayeredField
from bioplaus.fields.connections import Lateral
from bioplaus.fields.layer import Layer
from bioplaus.nudging import (
    AbstractDeviations,
    Confined,
    Layered,
    Nudge,
    Symmetrised,
    Whole,
    absolute,
    deviations,
    symmetrised,
)
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Status, Sweeps, SymmetricSweeps, solve
from tests.fields import TIGHT, Problem, clipped, problem

SIZES = [(6, 7, 3), (6, 7, 5, 3), (6, 9, 8, 7, 6, 3)]
COST = get_cost("cross-entropy")
CHAIN = SymmetricSweeps()


def wide(batch: int = 30) -> Problem:
    """A deep network whose rows end one by one."""
    return problem((6, 40, 40, 40, 3), batch, **clipped(gain=1.0, feedback_gain=0.4))


def residual(dynamics: AbstractDeviations | Layered | Whole, s: torch.Tensor) -> torch.Tensor:
    """The relative residual of every row, computed from scratch."""
    size = torch.linalg.vector_norm(s, dim=1)
    force = dynamics.force(s, torch.empty_like(s))
    return torch.linalg.vector_norm(force, dim=1) / dynamics.scale(size)


@pytest.mark.parametrize("kind", [AsymEP, VectorFieldEP])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_the_fixed_points_are_those_of_plain_sweeps(kind, sizes, kw):
    p = problem(sizes, **kw)
    tight = dataclasses.replace(TIGHT, solver=CHAIN)
    found, wanted = (
        kind(settling, beta=0.3)(p.field, p.x, p.y, COST) for settling in (tight, TIGHT)
    )
    for name in ("free", "nudged"):
        for a, b in zip(*(_phases(getattr(e, name)) for e in (found, wanted)), strict=True):
            assert a.converged.all()
            torch.testing.assert_close(a.s, b.s, rtol=0, atol=1e-11)


def _phases(found):
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("take", [False, True])
def test_each_residual_is_that_of_the_state_returned(most, take, monkeypatch):
    monkeypatch.setattr(Layered, "worth_taking", lambda self, left, rows: take and left < rows)
    p = wide()
    settling = Settling(CHAIN, tolerance=1e-4, free_steps=most, nudged_steps=most, verify=False)
    free, drive = free_phase(p.field, p.x, settling=settling), p.field.drive(p.x)
    torch.testing.assert_close(
        free.residual, residual(absolute(p.field, drive), free.s), rtol=1e-6, atol=1e-13
    )
    assert (free.converged == (free.residual <= 1e-4)).all()
    nudge = Nudge(COST, p.y, torch.full((len(p.x), 1), 0.3, dtype=p.x.dtype))
    for kind in (deviations, symmetrised):
        end = nudged_phase(p.field, drive, free.s, COST, p.y, 0.3, settling=settling, dynamics=kind)
        assert end.deviation is not None
        wanted = residual(kind(p.field, drive, nudge, free.s), end.deviation)
        torch.testing.assert_close(end.residual, wanted, rtol=1e-6, atol=1e-13)
    if most == 100:
        assert free.converged.all()
        assert free.n_steps.unique().numel() > 1


def test_rows_that_are_taken_end_as_alone(monkeypatch):
    monkeypatch.setattr(Layered, "worth_taking", lambda self, left, rows: left < rows)
    p, tight = wide(12), dataclasses.replace(TIGHT, solver=CHAIN, tolerance=1e-10)
    together = AsymEP(tight, beta=0.3)(p.field, p.x, p.y, COST)
    for row in range(12):
        x, y = p.x[row : row + 1], p.y[row : row + 1]
        alone = AsymEP(tight, beta=0.3)(p.field, x, y, COST)
        for a, b in zip(together.nudged, alone.nudged, strict=True):
            torch.testing.assert_close(a.s[row], b.s[0], rtol=0, atol=1e-9)


def test_a_pass_costs_half_an_evaluation_of_the_field():
    p = problem((6, 300, 300, 300, 3), **clipped())
    drive, inner = p.field.drive(p.x), 4 * 300 * 300 * len(p.x)
    start = p.field.initial_state(drive)

    def products(steps):
        with FlopCounterMode(display=False) as counter:
            solve(absolute(p.field, drive), start, CHAIN, tolerance=0, max_steps=steps)
        return counter.get_total_flops() / 2

    # the outputs add 4 narrow products a pass, each of 3 / 300
    assert (products(14) - products(4)) / 10 == pytest.approx(inner / 2, rel=0.05)


def test_the_first_pass_from_rest_is_the_feedforward_pass():
    p = problem((6, 7, 5, 3), **clipped())
    once = Settling(SymmetricSweeps(1), tolerance=0, free_steps=1)
    found = free_phase(p.field, p.x, settling=once).s
    wanted = p.field.initial_state(p.field.drive(p.x))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_the_confined_field_is_the_symmetrised_one_within_its_bounds(seed):
    p = problem((6, 20, 20, 3), seed=seed, **clipped(gain=2.0))
    free, drive = free_phase(p.field, p.x, settling=TIGHT).s, p.field.drive(p.x)
    nudge = Nudge(COST, p.y, torch.full((4, 1), 0.3, dtype=p.x.dtype))
    confined, full = (kind(p.field, drive, nudge, free) for kind in (Confined, Symmetrised))
    d = torch.randn(free.shape, generator=torch.Generator().manual_seed(seed), dtype=free.dtype)
    d *= full.slope  # units outside their box do not move
    assert 0 < float(full.slope.mean()) < 1
    got, wanted = (each.force(d, torch.empty_like(d)) for each in (confined, full))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_fields_that_are_no_chain_are_swept_as_before():
    layers = [Layer(7, "clipped"), Layer(5, "clipped"), Layer(3, "linear")]
    connections = [
        Dense(0, 1),
        Dense(1, 2),
        Dense(2, 3),
        Dense(2, 1, gain=0.3),
        Lateral(1, gain=0.2),
    ]
    g = torch.Generator().manual_seed(0)
    field = LayeredField(6, layers, connections, generator=g, dtype=torch.float64)
    x = torch.rand(5, 6, generator=g, dtype=torch.float64)
    found, wanted = (
        free_phase(field, x, settling=Settling(solver, 1e-6)) for solver in (CHAIN, Sweeps())
    )
    assert torch.equal(found.s, wanted.s)
    assert found.n_steps.tolist() == wanted.n_steps.tolist()


def test_a_state_that_is_no_number_ends_as_such():
    p = problem(**clipped())
    p.field.parameters["forward.2"].fill_(torch.nan)
    free = free_phase(p.field, p.x, settling=Settling(CHAIN, 1e-4, free_steps=50))
    assert (free.status == Status.NON_FINITE).all()
