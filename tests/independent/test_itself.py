"""The second implementation against definitions: finite differences of its own formulas."""

import numpy as np
import pytest

from tests.independent import updates
from tests.independent.flows import Free, Pair, Pulled, Turned
from tests.independent.network import CORNERS, RHO, SLOPE, Cost, Network, assemble
from tests.independent.settling import follow, growth, polish
from tests.independent.walking import Rule, shaken, walk

SIZES = (3, 4, 5, 2)
KINDS = [
    *({"rho": rho} for rho in RHO),
    {"rho": "sigmoid", "tied": True, "coordinates": "activity"},
    {"rho": "tanh", "linear_output": False},
    {"rho": "hard-sigmoid", "coordinates": "clipped"},
    {"rho": "hard-sigmoid", "coordinates": "clipped", "linear_output": False, "tied": True},
]
COSTS = [Cost("squared-error"), Cost("cross-entropy")]


def weights_of(tied: bool, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {f"forward.{k}": 0.4 * rng.normal(size=(SIZES[k], SIZES[k - 1])) for k in (1, 2, 3)}
    made |= {f"bias.{k}": rng.uniform(0.2, 0.6, SIZES[k]) for k in (1, 2, 3)}
    if not tied:
        made |= {f"feedback.{k}": 0.4 * rng.normal(size=(SIZES[k], SIZES[k + 1])) for k in (1, 2)}
    return made


def build(weights=None, *, rho="tanh", tied=False, coordinates="membrane", linear_output=True):
    made = weights_of(tied) if weights is None else weights
    options = {"tied": tied, "coordinates": coordinates, "linear_output": linear_output}
    return assemble(SIZES, rho, made, **options)


def slope_of(function, at: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """d function / d at, by central differences, [values, at]."""
    flat = at.ravel()
    columns = []
    for i in range(len(flat)):
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[i] += sign * h
            sides.append(np.atleast_1d(function(moved.reshape(at.shape))))
        columns.append((sides[0] - sides[1]) / (2 * h))
    return np.array(columns).T


X, Y = np.array([0.3, 0.9, 0.5]), np.array([1.0, 0.0])


@pytest.mark.parametrize("name", RHO)
def test_slope_is_the_derivative_of_rho(name):
    z = np.array([-3.1, -0.4, 0.2, 0.7, 1.3, 20.0])
    h = 1e-6
    expected = (RHO[name](z + h) - RHO[name](z - h)) / (2 * h)
    np.testing.assert_allclose(SLOPE[name](z), expected, atol=1e-8)


@pytest.mark.parametrize("name", RHO)
def test_corners_are_where_the_slope_jumps(name):
    grid = np.arange(-64, 64) / 8 + 1 / 16
    jumps = np.abs(np.diff(SLOPE[name](grid))) > 0.5
    assert (grid[:-1][jumps] + 1 / 16).tolist() == [float(at) for at in CORNERS.get(name, ())]


def test_edge_is_the_distance_to_the_nearest_corner():
    net = build(rho="relu6")
    s = np.full(net.n, 2.0)
    s[3], s[net.outputs[0]] = 5.5, 0.1  # the outputs are linear
    assert net.edge(X, s) == pytest.approx(0.5)
    s[4] = -0.2
    assert net.edge(X, s) == pytest.approx(0.2)
    assert build(rho="dsilu").edge(X, s) == np.inf


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_gradient_and_hessian_are_derivatives_of_the_cost(cost):
    z = np.array([0.3, -1.2, 2.0])
    y = np.array([0.2, 0.5, 0.6])
    np.testing.assert_allclose(
        slope_of(lambda t: cost.value(t, y), z)[0], cost.gradient(z, y), atol=1e-8
    )
    np.testing.assert_allclose(
        slope_of(lambda t: cost.gradient(t, y), z), cost.hessian(z, y), atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_jacobians_are_derivatives_of_the_forces(kind, cost):
    net = build(**kind)
    rng = np.random.default_rng(1)
    free = polish(Free(net, X), follow(Free(net, X), net.one_pass_upwards(X), 60.0))
    flows = [Free(net, X), Pulled(net, X, Y, cost, 0.3), Turned(net, X, Y, cost, 0.3, free)]
    for flow in flows:
        s = rng.uniform(0.1, 0.9, net.n)
        assert flow.edge(s) > 1e-4
        np.testing.assert_allclose(flow.jacobian(s), slope_of(flow.force, s), atol=1e-8)


def test_a_network_by_hand():
    weights = {"forward.1": [[2.0]], "forward.2": [[0.5]], "feedback.1": [[-1.0]]}
    weights |= {"bias.1": [0.1], "bias.2": [0.2]}
    weights = {name: np.array(value) for name, value in weights.items()}
    net = assemble(
        (1, 1, 1), "tanh", weights, tied=False, coordinates="membrane", linear_output=True
    )
    s = np.array([0.4, 0.7])
    expected = [2 * 0.3 + 0.1 - 0.7 - 0.4, 0.5 * np.tanh(0.4) + 0.2 - 0.7]
    np.testing.assert_allclose(net.mu(np.array([0.3]), s), expected, atol=1e-15)
    np.testing.assert_allclose(
        net.one_pass_upwards(np.array([0.3])), [0.7, 0.5 * np.tanh(0.7) + 0.2]
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_true_gradient_is_the_derivative_of_the_cost_at_the_fixed_point(kind, cost):
    weights = weights_of(kind.get("tied", False))
    start = Free(build(weights, **kind), X)
    s = polish(start, follow(start, start.net.one_pass_upwards(X), 60.0))
    assert growth(start, s) < 0
    got = updates.true_gradient(start.net, X, Y, s, cost)
    assert got.keys() == weights.keys()
    for name, value in weights.items():

        def loss(w, name=name):
            net = build(weights | {name: w}, **kind)
            end = polish(Free(net, X), s)
            return cost.value(end[net.outputs], Y)

        np.testing.assert_allclose(got[name].ravel(), -slope_of(loss, value)[0], atol=1e-8)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_evening_is_the_derivative_of_the_asymmetry(kind):
    weights = weights_of(kind.get("tied", False))
    net = build(weights, **kind)
    s = polish(Free(net, X), follow(Free(net, X), net.one_pass_upwards(X), 60.0))
    for name, slope in updates.evening(net, X, s).items():

        def loss(w, name=name):
            return updates.lopsidedness(net, build(weights | {name: w}, **kind).w, X, s)

        np.testing.assert_allclose(slope.ravel(), -slope_of(loss, weights[name])[0], atol=1e-8)


@pytest.mark.parametrize("rho", ["tanh", "softplus", "sigmoid-4s-2"])
def test_exact_methods_tend_to_the_true_gradient(rho):
    net, cost = build(rho=rho), Cost("cross-entropy")
    s = polish(Free(net, X), follow(Free(net, X), net.one_pass_upwards(X), 60.0))
    truth = updates.true_gradient(net, X, Y, s, cost)
    errors = {"turned": [], "pair": [], "pulled": []}
    for beta in (0.1, 0.05):
        ends = {
            "turned": [polish(Turned(net, X, Y, cost, b, s), s) for b in (beta, -beta)],
            "pulled": [polish(Pulled(net, X, Y, cost, b), s) for b in (beta, -beta)],
            "pair": np.split(polish(Pair(net, X, Y, cost, 2 * beta), np.tile(s, 2)), 2),
        }
        for name, (plus, minus) in ends.items():
            update = updates.spread(net, X, s, (plus - minus) / (2 * beta))
            errors[name].append(_distance(update, truth))
    for name in ("turned", "pair"):
        assert abs(np.log2(errors[name][0] / errors[name][1]) - 2) < 0.2
    assert errors["pulled"][1] > 0.02  # the floor that asymmetry sets


def _distance(a, b):
    return np.sqrt(sum(np.sum((a[k] - b[k]) ** 2) for k in b) / sum(np.sum(b[k] ** 2) for k in b))


def test_the_circle_tends_to_the_derivative():
    net, cost = build(rho="tanh"), Cost("squared-error")
    s = polish(Free(net, X), follow(Free(net, X), net.one_pass_upwards(X), 60.0))
    pull = Pulled(net, X, Y, cost, 1.0).pull(s)
    limit = np.linalg.solve(net.jacobian(X, s), -pull)
    for count in (1, 2, 3, 4):
        errors = []
        for radius in (0.2, 0.1):
            turn = radius * np.exp(2j * np.pi * np.arange(count) / count)
            points = [polish(Pulled(net, X, Y, cost, b), s.astype(complex)) for b in turn]
            delta = updates.cauchy(net, points, radius)
            delta = updates.less_free(net, delta, s, count, radius)
            errors.append(np.linalg.norm(delta - limit))
        assert abs(np.log2(errors[0] / errors[1]) - count) < 0.3


def test_returning_and_leaving():
    """A network of one unit with itself cannot be built; two that excite each other can."""
    for gain, stable in ((0.9, True), (1.1, False)):
        weights = {"forward.1": [[0.0]], "forward.2": [[gain]], "feedback.1": [[gain]]}
        weights |= {"bias.1": [0.0], "bias.2": [0.0]}
        weights = {name: np.array(value) for name, value in weights.items()}
        options = {"tied": False, "coordinates": "membrane", "linear_output": False}
        net: Network = assemble((1, 1, 1), "tanh", weights, **options)
        rate = growth(Free(net, np.zeros(1)), np.zeros(2))
        assert rate == pytest.approx(gain - 1)
        assert (rate < 0) == stable


def test_unrolling_is_the_derivative_by_a_constant_force():
    net, dt, steps, c = build(rho="relu"), 0.4, 9, np.array([0.7, -0.2])
    flow = Free(net, X)
    s = polish(flow, follow(flow, net.one_pass_upwards(X), 60.0))

    def end(force):
        state = s
        for _ in range(steps):
            state = state + dt * (flow.force(state) + force)
        return state

    by_force = slope_of(end, np.zeros(net.n))
    memory, most, missing = updates.unrolling(flow, s, c, dt, steps)
    lacks = (by_force @ flow.jacobian(s) + np.eye(net.n))[net.outputs].T @ c
    assert missing == pytest.approx(np.linalg.norm(lacks), rel=1e-6)
    assert memory >= np.linalg.norm(by_force, 2)
    assert most >= 1


def test_a_walk_by_hand():
    """One linear unit: w, b and s move together."""
    x, y, beta, dt, rate, steps = 0.5, 1.0, 0.2, 0.3, 0.1, 7
    weights = {"forward.1": np.array([[0.4]]), "bias.1": np.array([0.1])}

    def rebuild(theta):
        options = {"tied": False, "coordinates": "membrane", "linear_output": True}
        return assemble((1, 1), "tanh", theta, **options)

    row = (np.array([x]), np.array([y]), np.array([0.3]), beta)
    rule = Rule(rebuild, weights, [row], Cost("squared-error"), dt, rate)
    total, residuals = walk(rule, steps)
    w, b, s, left = 0.4, 0.1, 0.3, []
    for _ in range(steps):
        new = s + dt * (w * x + b - s - beta * (s - y))
        left.append(abs(w * x + b - new - beta * (new - y)) / new)
        w, b, s = w + rate * (new - s) / beta * x, b + rate * (new - s) / beta, new
    assert total["forward.1"][0, 0] == pytest.approx((w - 0.4) / rate, rel=1e-12)
    assert total["bias.1"][0] == pytest.approx((b - 0.1) / rate, rel=1e-12)
    np.testing.assert_allclose(residuals, left, rtol=1e-10)
    assert shaken(rule, 0.0, total, residuals)[0] == 0
    small, large = (shaken(rule, eps, total, residuals)[0] for eps in (1e-10, 1e-8))
    assert small > 1e-11
    assert large == pytest.approx(100 * small, rel=1e-3)
