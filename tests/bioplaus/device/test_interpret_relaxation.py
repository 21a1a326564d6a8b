"""The kernels of relaxations, under Triton's interpreter, against the solver in plain torch."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from bioplaus.costs import get_cost
from bioplaus.device.resident import Launch, settle, unfit
from bioplaus.fields import Conv, Dense, Lateral, Layer, LayeredField, LeakyField
from bioplaus.nudging import Layered, Nudge, absolute, deviations, symmetrised
from bioplaus.solvers import Anderson, Euler, Solution, Status, Sweeps, solve

pytest.importorskip("triton")

ONE_BLOCK = Launch(rows=16)
SMALL_BLOCKS = Launch(rows=16, whole=False)
PHASES = ("free", "plain", "exact")


def network(sizes: list[int], activation: str, coordinates: str = "membrane") -> LeakyField:
    g = torch.Generator().manual_seed(1)
    net = LeakyField(sizes, activation, coordinates=coordinates, feedback_gain=0.7, generator=g)
    for name, p in net.parameters.items():
        if name.startswith("bias"):
            p.copy_(0.2 + 0.1 * torch.randn(p.shape, generator=g))
    return net


def phase(
    net: LayeredField, kind: str, rows: int, cost: str = "squared-error", signed: bool = True
) -> tuple[Layered, Tensor]:
    """The dynamics of a phase of random rows, and where it starts."""
    x = torch.rand(rows, net.shapes[0][0], generator=torch.Generator().manual_seed(2))
    drive = net.drive(x)
    free, start = absolute(net, drive), net.initial_state(drive)
    if kind == "free":
        return free, start
    rest = solve(free, start, Sweeps(), tolerance=1e-5, max_steps=60).s
    y = torch.nn.functional.one_hot(torch.arange(rows) % net.n_output, net.n_output).float()
    y = 0.1 + 0.9 * y  # not of sum 1
    beta = torch.full((rows, 1), 0.5)
    if signed:
        beta[::2] *= -1
    make = deviations if kind == "plain" else symmetrised
    made = make(net, drive, Nudge(get_cost(cost), y, beta), rest)
    return made, torch.zeros_like(start)


def agrees(found: Solution, wanted: Solution, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found.s, wanted.s, rtol=0, atol=atol)
    assert found.n_steps.tolist() == wanted.n_steps.tolist()
    assert found.status.tolist() == wanted.status.tolist()
    torch.testing.assert_close(found.residual, wanted.residual, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("kind", PHASES)
@pytest.mark.parametrize(
    ("activation", "coordinates", "cost"),
    [("hard-sigmoid", "clipped", "squared-error"), ("tanh", "membrane", "cross-entropy")],
)
def test_interpret_pair_takes_the_steps_of_the_solver(kind, activation, coordinates, cost) -> None:
    # 19 rows: a block of 16 and one of three; rows end one by one
    made, start = phase(network([5, 21, 3], activation, coordinates), kind, 19, cost)
    wanted = solve(made, start, Sweeps(), tolerance=1e-3, max_steps=30)
    assert wanted.n_steps.unique().numel() > 1
    agrees(settle(made, start, tolerance=1e-3, max_steps=30, launch=ONE_BLOCK), wanted)


@pytest.mark.parametrize("kind", PHASES)
def test_interpret_grid_takes_the_steps_of_the_solver(kind) -> None:
    # widths of one tile and of two, neither full
    made, start = phase(network([5, 18, 13, 3], "hard-sigmoid", "clipped"), kind, 7)
    wanted = solve(made, start, Sweeps(), tolerance=1e-2, max_steps=12)
    assert wanted.n_steps.unique().numel() > 1
    agrees(settle(made, start, tolerance=1e-2, max_steps=12, launch=SMALL_BLOCKS), wanted)


@pytest.mark.parametrize("programs", [2, 99])
def test_interpret_grid_shares_its_tiles_among_programs(programs) -> None:
    # a launch a half-sweep: the interpreter runs one program after the other
    made, start = phase(network([5, 18, 4, 3], "tanh"), "exact", 3, "cross-entropy")
    wanted = solve(made, start, Sweeps(), tolerance=0, max_steps=2)
    launch = Launch(programs=programs, resident=False)
    found = settle(made, start, tolerance=0, max_steps=2, launch=launch)
    agrees(found, wanted)
    assert found.n_steps.tolist() == [2, 2, 2]


@pytest.mark.parametrize("launch", [ONE_BLOCK, SMALL_BLOCKS])
def test_interpret_one_row_and_one_step(launch) -> None:
    made, start = phase(network([5, 4, 2], "sigmoid-4s-2"), "exact", 1)
    wanted = solve(made, start, Sweeps(), tolerance=0, max_steps=1)
    found = settle(made, start, tolerance=0, max_steps=1, launch=launch)
    agrees(found, wanted)
    assert found.n_steps.tolist() == [1]


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "relu6", "hard-sigmoid", "linear"])
def test_interpret_every_activation(activation) -> None:
    made, start = phase(network([5, 6, 2], activation), "exact", 4)
    wanted = solve(made, start, Sweeps(), tolerance=0, max_steps=3)
    found = settle(made, start, tolerance=0, max_steps=3, launch=ONE_BLOCK)
    agrees(found, wanted)
    assert found.n_steps.tolist() == [3, 3, 3, 3]


def test_interpret_a_limit_a_start_and_a_lost_row() -> None:
    made, start = phase(network([5, 6, 2], "linear"), "free", 3)
    start[1], start[2] = math.nan, 1e9
    found = settle(made, start, tolerance=1e-6, max_steps=2, launch=ONE_BLOCK)
    wanted = solve(made, start, Sweeps(), tolerance=1e-6, max_steps=2)
    assert found.status.tolist() == wanted.status.tolist()
    assert found.status.tolist()[1] == Status.NON_FINITE


def test_interpret_a_row_without_headway_ends_where_another_attempt_follows() -> None:
    net = network([3, 4, 2], "linear")
    for name in ("forward.2", "feedback.1"):  # a rotation: sweeps go round and round
        net.parameters[name].copy_(torch.eye(*net.parameters[name].shape))
    net.parameters["feedback.1"].neg_()
    made, start = phase(net, "free", 2)
    found = settle(made, start, tolerance=1e-4, max_steps=40, last=False, launch=ONE_BLOCK)
    assert found.n_steps.tolist() == [16, 16]
    assert found.status.tolist() == [Status.MAX_STEPS] * 2


@pytest.mark.parametrize("launch", [ONE_BLOCK, SMALL_BLOCKS])
@pytest.mark.parametrize("kind", ["free", "exact"])
def test_interpret_bfloat16_rounds_weights_and_activities_alone(launch, kind) -> None:
    made, start = phase(network([5, 6, 3], "hard-sigmoid", "clipped"), kind, 3, signed=False)
    launch = dataclasses.replace(launch, dtype=torch.bfloat16)
    found = settle(made, start, tolerance=0, max_steps=3, launch=launch)
    exact = solve(made, start, Sweeps(), tolerance=0, max_steps=3)
    off = float((found.s - rounded(made, start, 3)).abs().max())
    assert off < 1e-5
    assert off < float((found.s - exact.s).abs().max())


def rounded(made: Layered, start: Tensor, steps: int) -> Tensor:
    """Sweeps over two layers in a box whose products are of bfloat16 numbers."""

    def bf(t: Tensor) -> Tensor:
        # where a device rounds, the interpreter cuts off
        return (t.contiguous().view(torch.int32) & -65536).view(torch.float32)

    names = ("forward.2", "feedback.1")
    up, down = (made.field.parameters[n].bfloat16().float() for n in names)
    h, o = (t.clone() for t in made.field.split(start))
    n = h.shape[1]
    if made.nudge is None:
        h_base, o_base = made.drive, made.field.parameters["bias.2"]
        for _ in range(steps):
            h = torch.clamp(h_base + bf(o) @ down.T, 0, 1)
            o = o_base + bf(h) @ up.T
        return torch.cat((h, o), 1)
    s, D = made.origin, made.slope
    for _ in range(steps):
        pull = made.nudge.beta * made.nudge.cost.slope(s[:, n:] + o, made.nudge.target)
        o = o + (bf(h * D[:, :n]) @ down - pull - o) / (1 + made.nudge.beta)
        current = D[:, :n] * (bf(o) @ up)
        h = torch.minimum(torch.maximum(current, -s[:, :n]), 1 - s[:, :n])
    return torch.cat((h, o), 1)


def test_interpret_skips_what_the_kernels_cannot_do() -> None:
    net = network([5, 6, 2], "tanh")
    made, _ = phase(net, "free", 3)
    assert unfit(made, Sweeps(), rows=3) is None
    assert "Euler" in str(unfit(made, Euler(), rows=3))
    assert "Anderson" in str(unfit(made, Anderson(), rows=3))
    assert "2000" in str(unfit(made, Sweeps(), rows=2000))
    assert "verify" in str(unfit(made, Sweeps(), rows=3, verify=None))
    assert "every 2" in str(unfit(made, Sweeps(), rows=3, check_every=2))
    double = network([5, 6, 2], "tanh").precise()
    assert "float64" in str(
        unfit(absolute(double, double.drive(torch.zeros(1, 5).double())), Sweeps(), rows=1)
    )
    for layers, connections, word in [
        ([Layer(6), Layer(2, "linear")], [Dense(0, 1), Dense(1, 2), Lateral(1)], "layer"),
        (
            [Layer(6), Layer(4), Layer(2)],
            [Dense(0, 1), Dense(1, 2), Dense(2, 3), Dense(1, 3)],
            "layer",
        ),
        (
            [Layer(6, "tanh"), Layer(4, "relu"), Layer(2)],
            [Dense(0, 1), Dense(1, 2), Dense(2, 3)],
            "differ",
        ),
        (
            [Layer((2, 3, 3)), Layer((2, 3, 3)), Layer(2)],
            [Dense(0, 1), Conv(1, 2), Dense(2, 3)],
            "dense",
        ),
        ([Layer(6, "softplus"), Layer(2)], [Dense(0, 1), Dense(1, 2)], "activation"),
    ]:
        other = LayeredField(5, layers, connections)
        reason = unfit(absolute(other, other.drive(torch.zeros(1, 5))), Sweeps(), rows=1)
        assert word in str(reason)
