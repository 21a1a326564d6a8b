"""Anderson mixing has a known end: a linear field is solved in as many steps as it has dimensions.

Source: Walker and Ni 2011 (SIAM J. Numer. Anal. 49), theorem 2.2: it is then GMRES in disguise.
"""

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.estimators import Holomorphic
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Anderson, Sweeps
from tests.fields import problem


def linear(width):
    """Slow under sweeps. The hidden layer decides the output, so that it has `width` dimensions."""
    settings = {"activation": "linear", "gain": 0.6, "feedback_gain": 1.0, "angle": 0.0}
    return problem((4, width, width), seed=2, **settings)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_linear_field_is_solved_in_as_many_steps_as_it_has_dimensions(width):
    p = linear(width)
    settling = Settling(Anderson(memory=width + 1), tolerance=1e-10, free_steps=60)
    end = free_phase(p.field, p.x, settling=settling)
    assert bool(end.converged.all())
    assert int(end.n_steps.max()) <= width + 2
    plain = free_phase(p.field, p.x, settling=Settling(Sweeps(), 1e-10, 2000))
    assert int(plain.n_steps.min()) > 3 * (width + 2)
    torch.testing.assert_close(end.s, plain.s, rtol=0, atol=1e-7)


@pytest.mark.parametrize("width", [2, 3])
def test_complex_rows_take_about_as_many_steps_as_real_ones(width):
    p = linear(width)
    settling = Settling(Anderson(memory=width + 1), 1e-10, 60, 60)
    rule = Holomorphic(settling, beta=0.3, points=5)
    estimate = rule(p.field, p.x, p.y, get_cost("squared-error"))
    real, *complex_ = estimate.nudged
    for phase in complex_:
        assert bool(phase.converged.all())
        assert int(phase.n_steps.max()) <= 2 * int(real.n_steps.max())
