"""The rule in continuous time against the two-state difference and against the exact integral."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from bioplaus.engines import Course, integrate_rule
from bioplaus.errors import InputError
from tests.engines import dynamics, force, require_brian2
from tests.fields import Problem, clipped, flat, problem

require_brian2()


def course(dt: float) -> Course:
    return Course(free="250 ms", nudged="200 ms", dt=f"{dt} ms")


def two_states(p: Problem, free: Tensor, nudged: Tensor, beta: float) -> dict[str, Tensor]:
    """rho(s_j*) (s_i^beta - s_i*) / beta."""
    return p.field.local_update(p.x, free, (nudged - free) / beta)


def difference(p: Problem, beta: float, dt: float = 1.0) -> float:
    """How far the integral lies from the two-state rule of the same simulation, relatively."""
    end = integrate_rule(p.field, p.x, p.y, beta=beta, course=course(dt))
    rule = flat(two_states(p, end.trajectory.free, end.trajectory.nudged, beta))
    return float((flat(end.updates) - rule).norm() / rule.norm())


@pytest.mark.parametrize(
    "settings", [{"activation": "sigmoid-4s-2"}, {"tied": True, "activation": "tanh"}]
)
def test_it_nears_the_two_state_rule_in_proportion_to_beta(settings):
    p = problem(sizes=(6, 5, 3), **settings)
    errors = np.array([difference(p, beta) for beta in (0.1, 0.05, 0.025)])
    orders = np.log2(errors[:-1] / errors[1:])
    assert np.all(np.abs(orders - 1) < 0.2), errors
    assert errors[-1] < 0.01


def test_a_rate_that_does_not_move_gives_the_two_state_rule_itself():
    p = problem(sizes=(6, 3))  # the presynaptic rates are the clamped input
    assert difference(p, 0.4) < 1e-12


def test_it_nears_the_exact_integral_in_proportion_to_dt():
    p, beta = problem(sizes=(6, 5, 3), activation="sigmoid-4s-2"), 0.4
    exact = flat(exact_integral(p, beta))
    errors = []
    for dt in (2.0, 1.0, 0.5):
        found = flat(integrate_rule(p.field, p.x, p.y, beta=beta, course=course(dt)).updates)
        errors.append(float((found - exact).norm() / exact.norm()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1) < 0.2), errors


def exact_integral(p: Problem, beta: float) -> dict[str, Tensor]:
    """(1/beta) int rho(s_j) ds_i over the nudged phase, by scipy at a tight tolerance."""
    free, nudged = dynamics(p, "squared-error", beta)
    start = p.field.initial_state(p.field.drive(p.x)).numpy().ravel()
    settled = solve_ivp(lambda t, s: force(free, s), (0, 25), start, rtol=1e-11, atol=1e-13)

    def rates(s: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(s.reshape(-1, p.field.n))
        change = nudged.force(state, torch.empty_like(state))
        return flat(p.field.local_update(p.x, state, change / beta)).numpy()

    size, n = rates(settled.y[:, -1]).size, start.size
    flow = solve_ivp(
        lambda t, z: np.concatenate((force(nudged, z[:n]), rates(z[:n]))),
        *((0, 20), np.concatenate((settled.y[:, -1], np.zeros(size)))),
        rtol=1e-9,
        atol=1e-12,
    )
    parts = torch.from_numpy(flow.y[n:, -1])
    names = p.field.parameters
    sizes = [names[name].numel() for name in sorted(names)]
    return dict(zip(sorted(names), parts.split(sizes), strict=True))


def test_weights_move_while_the_nudge_acts_and_not_before():
    p = problem(sizes=(6, 5, 3))
    end = integrate_rule(p.field, p.x, p.y, beta=0.3, course=course(1.0), watched=4)
    onset = end.trajectory.onset
    assert end.weights.shape == (450, 4)
    assert not np.any(end.weights[: onset + 1])
    assert np.all(end.weights[-1] != 0)
    last = end.weights[-1] / 0.3
    single = integrate_rule(p.field, p.x[:1], p.y[:1], beta=0.3, course=course(1.0))
    np.testing.assert_allclose(last, single.updates["forward.2"].flatten()[:4], rtol=1e-6)


@pytest.mark.parametrize(
    "settings", [clipped(), {"activation": "softplus"}, {"tied": True}, {"linear_output": False}]
)
def test_every_synapse_sums_its_own_rates_and_changes(settings):
    p = problem(**settings)
    times = Course(free="100 ms", nudged="50 ms", dt="1 ms")
    end = integrate_rule(p.field, p.x, p.y, "cross-entropy", beta=0.4, course=times)
    path = end.trajectory.states[end.trajectory.onset :]
    steps = [p.field.local_update(p.x, a, (b - a) / 0.4) for a, b in pairwise(path)]
    assert end.updates.keys() == p.field.parameters.keys()
    for name, update in end.updates.items():
        expected = torch.stack([step[name] for step in steps]).sum(0)
        torch.testing.assert_close(update, expected, rtol=0, atol=1e-12)


def test_bad_input():
    p = problem(sizes=(6, 5, 3), coordinates="activity")
    with pytest.raises(InputError, match='"membrane" or "clipped"'):
        integrate_rule(p.field, p.x, p.y, beta=0.1)
    p = problem(sizes=(6, 5, 3))
    with pytest.raises(InputError, match="beta != 0"):
        integrate_rule(p.field, p.x, p.y, beta=0.0)
    with pytest.raises(InputError, match="needs a nudged phase"):
        integrate_rule(p.field, p.x, p.y, beta=0.1, course=Course())
