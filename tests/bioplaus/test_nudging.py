"""The nudge by hand, and rows that are taken out of a batch."""

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.estimators.dyadic import Dyad
from bioplaus.nudging import Deviations, Layered, Nudge, Symmetrised
from bioplaus.phases import free_phase
from tests.fields import TIGHT, clipped, problem

COST = get_cost("squared-error")
BETAS = torch.tensor([[0.1], [0.8], [-0.5], [0.3]], dtype=torch.float64)
ROWS = torch.tensor([3, 0, 2])


def test_the_pull_on_an_output_by_hand():
    nudge = Nudge(COST, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5]]))
    current, s = torch.tensor([[0.2, 0.2]]), torch.tensor([[0.4, 0.6]])
    # .2 - .5 (.4 - 1) and .2 - .5 (.6 - 0)
    torch.testing.assert_close(nudge.added_to(current, s), torch.tensor([[0.5, -0.1]]))
    torch.testing.assert_close(nudge.scaled(s), s / 1.5)


def test_one_settling_of_the_outputs_is_exact_for_the_squared_error():
    p = problem()
    dynamics = Layered(p.field, p.field.drive(p.x), Nudge(COST, p.y, BETAS))
    s = torch.randn(4, p.field.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    last = len(p.field.layers) - 1
    below = p.field.activity(s[:, p.field.layers[last - 1]], last - 1)
    a = below @ p.field.forward_weight(last).T + p.field.parameters[f"bias.{last + 1}"]
    dynamics.settle(s, (last,))
    # s = a - beta (s - y)
    torch.testing.assert_close(s[:, p.field.output], (a + BETAS * p.y) / (1 + BETAS))


def made(kind, p, free, target=None, beta=None):
    drive = p.field.drive(p.x)
    target, beta = p.y if target is None else target, BETAS if beta is None else beta
    if kind is Dyad:
        return Dyad(p.field, drive, COST, target, beta)
    nudge = Nudge(COST, target, beta)
    return kind(p.field, drive, nudge) if kind is Layered else kind(p.field, drive, nudge, free)


@pytest.mark.parametrize(
    "kind", [Layered, Deviations, Symmetrised, Dyad], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_rows_that_are_taken_keep_their_input_target_strength_and_free_state(kind, kw):
    p = problem(**kw)
    free = free_phase(p.field, p.x, settling=TIGHT).s
    dynamics = made(kind, p, free)
    g = torch.Generator().manual_seed(1)
    s = torch.rand(4, 2 * p.field.n if kind is Dyad else p.field.n, generator=g, dtype=free.dtype)
    for group in dynamics.groups:  # what is kept between the calls is taken as well
        dynamics.settle(s, group)
    whole = dynamics.force_after_settling(s, torch.empty_like(s)).clone()
    taken, some = dynamics.take(ROWS), s[ROWS].clone()
    got = taken.force_after_settling(some, torch.empty_like(some))
    torch.testing.assert_close(got, whole[ROWS], rtol=0, atol=1e-14)
    got = taken.force(some, torch.empty_like(some))
    torch.testing.assert_close(got, whole[ROWS], rtol=0, atol=1e-14)
    # the rows differ, or the test would show nothing
    assert float((whole[ROWS] - whole[:3]).norm()) > 1e-3
    fewer = taken.take(torch.tensor([1]))
    got = fewer.force(some[1:2].clone(), torch.empty_like(some[1:2]))
    torch.testing.assert_close(got, whole[:1], rtol=0, atol=1e-14)
    for group in dynamics.groups:
        dynamics.settle(s, group)
        taken.settle(some, group)
    torch.testing.assert_close(some, s[ROWS], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "kind", [Layered, Deviations, Symmetrised, Dyad], ids=lambda kind: kind.__name__
)
def test_each_of_the_rows_taken_has_its_own_target_and_strength(kind):
    p = problem()
    p = type(p)(p.field, p.x[:1].expand(4, -1).contiguous(), p.y)  # the same input in all
    free = free_phase(p.field, p.x, settling=TIGHT).s
    start = torch.cat((free, free), 1) if kind is Dyad else 0.1 * free
    for target, beta in ((p.y[:1].expand(4, -1), BETAS), (p.y, BETAS[:1].expand(4, -1))):
        dynamics = made(kind, p, free, target, beta)
        whole = dynamics.force(start.clone(), torch.empty_like(start)).clone()
        assert float((whole[ROWS] - whole[:3]).norm()) > 1e-3
        some = start[ROWS].clone()
        got = dynamics.take(ROWS).force(some, torch.empty_like(some))
        torch.testing.assert_close(got, whole[ROWS], rtol=0, atol=1e-14)
