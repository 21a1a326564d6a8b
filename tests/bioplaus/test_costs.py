import pytest
import torch

from bioplaus.costs import COSTS, CrossEntropy, get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.nudging.nudge import Nudge


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("labels", [True, False])
def test_slope_is_the_gradient_of_the_value(name, labels):
    g = torch.Generator().manual_seed(0)
    s = torch.randn(5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    y = one_hot(torch.tensor([0, 1, 2, 3, 0]), 4, torch.float64)
    if not labels:  # weights that do not sum to 1
        y = torch.rand(5, 4, generator=g, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(COSTS[name].value(s, y).sum(), s)
    torch.testing.assert_close(COSTS[name].slope(s.detach(), y), gradient, atol=1e-12, rtol=0)


def test_cross_entropy_is_torchs():
    g = torch.Generator().manual_seed(1)
    s, labels = 5 * torch.randn(6, 3, generator=g), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = torch.nn.functional.cross_entropy(s, labels, reduction="none")
    value = COSTS["cross-entropy"].value(s, one_hot(labels, 3, s.dtype))
    torch.testing.assert_close(value, expected)


def test_cross_entropy_extends_to_complex_states():
    g = torch.Generator().manual_seed(2)
    s = torch.randn(4, 3, generator=g, dtype=torch.float64)
    y = torch.rand(4, 3, generator=g, dtype=torch.float64)
    cost = COSTS["cross-entropy"]
    lifted = cost.slope(s.to(torch.complex128), y)
    torch.testing.assert_close(lifted.real, cost.slope(s, y), atol=1e-14, rtol=0)
    assert lifted.imag.abs().max() == 0


def test_unknown_cost_lists_the_legal_ones():
    with pytest.raises(InputError, match="'hinge' is unknown; use one of squared-error"):
        get_cost("hinge")


class Tempered(CrossEntropy):
    """Restates the value alone."""

    def value(self, s, y):
        return super().value(s / 2, y)


class Doubled(CrossEntropy):
    """Restates the value and the slope for a given target."""

    def value(self, s, y):
        return 2 * super().value(s, y)

    def slope_at(self, y):
        parent = super().slope_at(y)
        return lambda s: 2 * parent(s)


class Halved(CrossEntropy):
    """Restates the slope alone."""

    def slope(self, s, y):
        return super().slope(s, y) / 2


def test_a_subclass_does_not_keep_its_parents_slope_for_what_it_states_anew():
    g = torch.Generator().manual_seed(3)
    s = torch.randn(4, 3, generator=g, dtype=torch.float64)
    y = torch.rand(4, 3, generator=g, dtype=torch.float64)
    plain = COSTS["cross-entropy"].slope
    nudge = Nudge(Tempered(), y, torch.ones(4, 1, dtype=torch.float64))
    torch.testing.assert_close(Tempered().slope(s, y), plain(s / 2, y) / 2)
    torch.testing.assert_close(s - nudge.added_to(s, s), plain(s / 2, y) / 2)
    torch.testing.assert_close(Halved().slope_at(y)(s), plain(s, y) / 2)
    torch.testing.assert_close(Doubled().slope(s, y), 2 * plain(s, y))
    torch.testing.assert_close(Doubled().slope_at(y)(s), 2 * plain(s, y))
