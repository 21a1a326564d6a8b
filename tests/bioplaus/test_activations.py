import pytest
import torch

from bioplaus.activations import ACTIVATIONS, get_activation
from bioplaus.errors import InputError


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_is_the_derivative(name):
    rho = ACTIVATIONS[name]
    s = torch.linspace(-3, 3, 101, dtype=torch.float64) + 1e-3  # no kink of hard-sigmoid is hit
    h = 1e-6
    difference = (rho(s + h) - rho(s - h)) / (2 * h)
    torch.testing.assert_close(rho.slope(s), difference, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.holomorphic])
def test_holomorphic_ones_satisfy_cauchy_riemann(name):
    rho = ACTIVATIONS[name]
    s = torch.linspace(-2, 2, 41, dtype=torch.float64).to(torch.complex128)
    h = 1e-6
    along = (rho(s + h) - rho(s - h)) / (2 * h)
    across = (rho(s + 1j * h) - rho(s - 1j * h)) / (2j * h)
    torch.testing.assert_close(along, across, atol=1e-8, rtol=1e-7)
    torch.testing.assert_close(rho(s).real, rho(s.real), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_range_and_output_buffer(name):
    rho = ACTIVATIONS[name]
    s = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    expected = rho(s)
    if rho.bounds:
        low, high = rho.bounds
        assert expected.min() >= low
        assert expected.max() <= high
    buffer = s.clone()
    assert rho(buffer, out=buffer) is buffer
    torch.testing.assert_close(buffer, expected, atol=0, rtol=0)


def test_unknown_name_lists_the_legal_ones():
    with pytest.raises(InputError, match=r"'reul' is unknown; use one of tanh, sigmoid"):
        get_activation("reul")
