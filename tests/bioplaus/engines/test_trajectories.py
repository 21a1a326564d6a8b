"""The same network in torch, in Brian2 and in scipy: states step by step, and fixed points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from bioplaus.engines import Brian2, Course, simulate
from bioplaus.phases import Settling, free_phase
from tests.engines import dynamics, euler, force, require_brian2
from tests.fields import TIGHT, clipped, problem

require_brian2()
SHORT = Course(free="20 ms", nudged="20 ms", dt="1 ms")


@pytest.mark.parametrize(
    ("settings", "cost"),
    [
        ({"activation": "tanh"}, "squared-error"),
        ({"activation": "sigmoid", "coordinates": "activity"}, "cross-entropy"),
        ({"activation": "sigmoid-4s-2", "tied": True}, "cross-entropy"),
        ({"activation": "softplus", "linear_output": False}, "squared-error"),
        ({"activation": "hard-sigmoid"}, "squared-error"),
        ({"activation": "linear"}, "squared-error"),
        (clipped(), "cross-entropy"),
        (clipped(linear_output=False), "squared-error"),
        ({"sizes": (6, 3)}, "squared-error"),
    ],
)
def test_euler_is_torch_euler_at_every_step(settings, cost):
    p = problem(**settings)
    theirs = simulate(p.field, p.x, p.y, cost, beta=0.4, course=SHORT)
    ours = euler(p, cost, 0.4, SHORT)
    assert theirs.states.shape == ours.shape == (41, 4, p.field.n)
    assert theirs.onset == 20
    error = (theirs.states - ours).norm(dim=(1, 2)) / ours.norm(dim=(1, 2))
    assert float(error.max()) < 1e-9
    assert not torch.equal(theirs.free, theirs.nudged)
    np.testing.assert_allclose(theirs.time, 1e-3 * np.arange(41))


def test_one_row_one_beta():
    p = problem(batch=2)
    each = torch.tensor([[0.0], [0.5]], dtype=torch.float64)
    run = simulate(p.field, p.x, p.y, beta=each, course=SHORT)
    free = simulate(p.field, p.x, course=Course(free="40 ms", dt="1 ms"))
    torch.testing.assert_close(run.nudged[0], free.nudged[0], rtol=0, atol=1e-15)
    assert float((run.nudged[1] - free.nudged[1]).norm()) > 1e-3


@pytest.mark.parametrize("method", ["euler", "exponential_euler", "rk4"])
@pytest.mark.parametrize("settings", [{"activation": "tanh"}, clipped()])
def test_every_method_ends_at_the_same_fixed_points(method, settings):
    p = problem(**settings)
    course = Course(free="600 ms", nudged="600 ms", dt="2 ms", method=method)
    run = simulate(p.field, p.x, p.y, beta=0.4, course=course)
    start = run.states[0].numpy().ravel()
    for part, end in zip(dynamics(p, "squared-error", 0.4), (run.free, run.nudged), strict=True):
        flow = solve_ivp(
            lambda t, s, part=part: force(part, s), (0, 80), start, rtol=1e-10, atol=1e-12
        )
        start = flow.y[:, -1]
        np.testing.assert_allclose(end.numpy().ravel(), start, rtol=0, atol=1e-6)
    free = free_phase(p.field, p.x, settling=TIGHT)
    torch.testing.assert_close(run.free, free.s, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["euler", "exponential_euler"])
def test_trajectories_near_the_exact_flow_in_proportion_to_dt(method):
    p = problem(activation="sigmoid")
    errors = []
    for dt in ("1 ms", "0.5 ms", "0.25 ms"):
        course = Course(free="20 ms", nudged="20 ms", dt=dt, method=method)
        run = simulate(p.field, p.x, p.y, beta=0.4, course=course)
        start, parts = run.states[0].numpy().ravel(), dynamics(p, "squared-error", 0.4)
        for part in parts:
            flow = solve_ivp(
                lambda t, s, part=part: force(part, s), (0, 2), start, rtol=1e-10, atol=1e-12
            )
            start = flow.y[:, -1]
        errors.append(np.linalg.norm(run.nudged.numpy().ravel() - start))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1) < 0.2), orders


def test_a_batch_in_parts_is_the_batch_at_once():
    p = problem(batch=7)
    whole, parts = Brian2(), Brian2(at_once=200)
    ends = [
        free_phase(p.field, p.x, settling=Settling(solver, 1e-10, 400, 400))
        for solver in (whole, parts)
    ]
    assert next(iter(parts.circuits.values())).batch < 7
    assert all(bool(end.converged.all()) for end in ends)
    torch.testing.assert_close(ends[0].s, ends[1].s, rtol=0, atol=1e-9)


def test_a_simulation_ends_as_soon_as_all_rows_have_settled():
    p = problem()
    end = free_phase(p.field, p.x, settling=Settling(Brian2(), 1e-3, 400, 400))
    assert 3 < int(end.n_steps.max()) < 100
    assert float(end.residual.max()) <= 1e-3
    fixed = free_phase(p.field, p.x, settling=Settling(Brian2(), 0.0, 17, 17))
    assert fixed.n_steps.tolist() == [17] * 4


def test_divergence_is_told():
    p = problem(activation="linear", gain=5.0, angle=0.0)
    end = free_phase(p.field, p.x, settling=Settling(Brian2(), 1e-6, 400, 400))
    assert not bool(end.converged.any())
    assert int(end.n_steps.max()) < 400


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cython", "cpp_standalone"])
def test_generated_code_gives_the_same_states(target):
    p = problem()
    course = Course(free="20 ms", nudged="20 ms", dt="1 ms", target=target)
    for cost in ("squared-error", "cross-entropy"):
        run = simulate(p.field, p.x, p.y, cost, beta=0.4, course=course)
        torch.testing.assert_close(run.states, euler(p, cost, 0.4, SHORT), rtol=1e-9, atol=1e-12)
