"""Many networks as one field: every row is that of its member."""

import dataclasses

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.estimators import get_estimator
from bioplaus.fields import Conv, Dense, FunctionField, Lateral, Layer, LayeredField, LeakyField
from bioplaus.fields.ensemble import Ensemble, unfit
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import DampedSweeps, Euler, Sweeps

MEMBERS = 4


def networks(sizes=(6, 9, 7, 3), **settings) -> list[LeakyField]:
    return [
        LeakyField(
            list(sizes),
            generator=torch.Generator().manual_seed(k),
            dtype=torch.float64,
            gain=1 + 0.2 * k,
            **settings,
        )
        for k in range(MEMBERS)
    ]


def together(nets) -> Ensemble:
    names = nets[0].parameters
    return Ensemble(nets[0], {k: torch.stack([n.parameters[k] for n in nets]) for k in names})


def inputs(nets, rows: int = 5) -> torch.Tensor:
    """One batch a member, [B, M, n_in]."""
    g = torch.Generator().manual_seed(9)
    return torch.rand(rows, len(nets), nets[0].input[0], generator=g, dtype=torch.float64)


KINDS = {
    "clipped": {"activation": "hard-sigmoid", "coordinates": "clipped", "feedback_gain": 0.5},
    "membrane": {"activation": "tanh", "feedback_gain": 0.6},
    "tied": {"activation": "sigmoid", "tied": True, "coordinates": "activity"},
    "no hidden layer": {"sizes": (6, 3)},
}


@pytest.mark.parametrize(
    ("kind", "name", "nudging", "solver"),
    [
        ("clipped", "vector-field", "centered", Sweeps()),
        ("clipped", "asym-ep", "one-sided", DampedSweeps(0.7)),
        ("membrane", "asym-ep", "centered", Sweeps()),
        ("membrane", "vector-field", "one-sided", Euler(0.6)),
        ("tied", "asym-ep", "centered", Euler(0.6)),
        ("tied", "vector-field", "centered", Sweeps()),
        ("no hidden layer", "asym-ep", "centered", Sweeps()),
        ("no hidden layer", "vector-field", "one-sided", Sweeps()),
    ],
)
def test_an_estimate_is_that_of_each_member(kind, name, nudging, solver) -> None:
    nets = networks(**KINDS[kind])
    many, x = together(nets), inputs(nets)
    y = torch.eye(3, dtype=torch.float64)[torch.arange(5 * MEMBERS) % 3].view(5, MEMBERS, 3)
    settling = Settling(solver, tolerance=1e-6, free_steps=200, nudged_steps=200, verify=False)
    rule = dataclasses.replace(get_estimator(name)(), settling=settling, nudging=nudging, gate=0.1)
    cost = get_cost("cross-entropy")
    found = rule(many, x.flatten(0, 1), y.flatten(0, 1), cost)
    steps = set()
    for m, net in enumerate(nets):
        own = rule(net, x[:, m], y[:, m], cost)
        for k, update in own.updates.items():
            torch.testing.assert_close(found.updates[k][m], update, rtol=1e-11, atol=1e-13)
        for mine, other in zip([own.free, *own.nudged], [found.free, *found.nudged], strict=True):
            assert torch.equal(mine.n_steps, other.n_steps[m::MEMBERS])
            assert torch.equal(mine.status, other.status[m::MEMBERS])
            torch.testing.assert_close(mine.s, other.s[m::MEMBERS], rtol=0, atol=1e-12)
            steps |= set(mine.n_steps.tolist())
    assert kind == "no hidden layer" or len(steps) > 3  # rows have been taken out on the way


def test_rows_that_begin_again_with_smaller_steps_stay_with_their_member() -> None:
    nets = networks(activation="tanh", feedback_gain=3.0, angle=180.0)
    many, x = together(nets), inputs(nets)
    settling = Settling(tolerance=1e-6, free_steps=2000, verify=False)
    found = free_phase(many, x.flatten(0, 1), settling=settling)
    for m, net in enumerate(nets):
        own = free_phase(net, x[:, m], settling=settling)
        assert torch.equal(own.n_steps, found.n_steps[m::MEMBERS])
        torch.testing.assert_close(own.s, found.s[m::MEMBERS], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_stability_is_that_of_each_member(kind) -> None:
    nets = networks(**KINDS[kind])
    many, x = together(nets), inputs(nets)
    settling = Settling(tolerance=1e-8, verify=True)
    found = free_phase(many, x.flatten(0, 1), settling=settling)
    assert found.abscissa is not None
    for m, net in enumerate(nets):
        own = free_phase(net, x[:, m], settling=settling)
        torch.testing.assert_close(own.abscissa, found.abscissa[m::MEMBERS], rtol=1e-6, atol=1e-7)


def test_the_formula_and_the_precise_field_are_those_of_each_member() -> None:
    nets = networks(**KINDS["membrane"])
    many, x = together(nets), inputs(nets)
    s = torch.rand(5, MEMBERS, many.n, dtype=torch.float64)
    mu = many.field(x.flatten(0, 1), s.flatten(0, 1))
    drive = many.drive(x.flatten(0, 1))
    torch.testing.assert_close(many.driven(drive, s.flatten(0, 1)), mu)
    some = torch.tensor([7, 1, 1, 18, 0])
    part = many.of_rows(some).precise()
    torch.testing.assert_close(part.driven(drive[some], s.flatten(0, 1)[some]), mu[some])
    back = many.linearise(s.flatten(0, 1), drive).vjp(s.flatten(0, 1))
    for m, net in enumerate(nets):
        torch.testing.assert_close(mu[m::MEMBERS], net.field(x[:, m], s[:, m]))
        own = net.linearise(s[:, m], net.drive(x[:, m])).vjp(s[:, m])
        torch.testing.assert_close(back[m::MEMBERS], own)
    assert repr(many).startswith(f"Ensemble({MEMBERS} times ")


def test_what_cannot_be_stacked_is_told() -> None:
    assert unfit(networks()[0]) is None
    mask = torch.ones(5, 4)
    own = FunctionField(lambda p, x, s: -s, {"w": torch.zeros(1)}, n=2, n_output=1)
    for field, word in [
        (own, "FunctionField"),
        (LayeredField(4, [Layer(5)], [Dense(0, 1, mask=mask)]), "forward.1 has a mask"),
        (LayeredField(4, [Layer(5)], [Dense(0, 1, trainable=False)]), "fixed"),
        (LayeredField(4, [Layer(5)], [Dense(0, 1), Lateral(1)]), "lateral.1 is Lateral"),
        (LayeredField((1, 6, 6), [Layer((2, 6, 6))], [Conv(0, 1)]), "forward.1 is Conv"),
        (LayeredField(4, [Layer((2, 2, 2))], [Dense(0, 1)]), "channels"),
    ]:
        assert word in (unfit(field) or "")
