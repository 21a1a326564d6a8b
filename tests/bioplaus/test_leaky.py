"""The leaky field against autograd of the same equations."""

import copy
import math
import pickle

import pytest
import torch

from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Implicit
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling
from tests.fields import (
    SMOOTH,
    TIGHT,
    autograd_field,
    clipped,
    distance,
    flat,
    jacobian,
    parameter_product,
    problem,
)

ZOO = [
    *({"activation": name} for name in SMOOTH),
    {"tied": True},
    {"linear_output": False},
    {"sizes": (6, 4)},
    {"sizes": (5, 6, 3)},
    clipped(),
    clipped(linear_output=False, tied=True),
]


def _inner_state(p, seed=5):
    """A state inside the box, so that no kink of the clip lies near."""
    g = torch.Generator().manual_seed(seed)
    return 0.1 + 0.5 * torch.rand(len(p.x), p.field.n, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("kw", ZOO, ids=str)
def test_field_is_the_equation(kw):
    p = problem(**kw)
    s = _inner_state(p)
    expected = autograd_field(p, p.field.parameters, s)
    torch.testing.assert_close(p.field.driven(p.field.drive(p.x), s), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("kw", ZOO, ids=str)
def test_products_with_the_jacobian(kw):
    p = problem(**kw)
    s = _inner_state(p)
    v = torch.randn(s.shape, generator=torch.Generator().manual_seed(1), dtype=s.dtype)
    dense = jacobian(p, s)
    expected = torch.einsum("bij,bj->bi", dense, v)
    at = p.at(s)
    torch.testing.assert_close(at.jvp(v), expected, atol=1e-12, rtol=0)
    expected = torch.einsum("bji,bj->bi", dense, v)
    torch.testing.assert_close(at.vjp(v), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kw", [k for k in ZOO if "coordinates" not in k], ids=str)
def test_local_update_is_the_parameter_product(kw):
    p = problem(**kw)
    s = _inner_state(p)
    delta = torch.randn(s.shape, generator=torch.Generator().manual_seed(2), dtype=s.dtype)
    update = p.field.local_update(p.x, s, delta)
    expected = parameter_product(p, s, delta)
    assert update.keys() == p.field.parameters.keys()
    for name in update:
        torch.testing.assert_close(update[name], expected[name], atol=1e-10, rtol=0)


def test_local_update_writes_into_given_buffers():
    p = problem()
    s = _inner_state(p)
    buffers = {k: torch.empty_like(v) for k, v in p.field.parameters.items()}
    got = p.field.local_update(p.x, s, s, out=buffers)
    assert all(got[k] is buffers[k] for k in buffers)
    torch.testing.assert_close(flat(got), flat(p.field.local_update(p.x, s, s)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(4, 1, 1), (4, 1, 1, 1), (3, 1, 2), (4, 2, 2), (9, 8, 7, 6)])
def test_transposed_and_opposite_weights_are_exact(sizes, dtype):
    for angle, sign in ((0.0, 1), (180.0, -1)):
        field = LeakyField(sizes, angle=angle, dtype=dtype)
        for back, forward in field.partners().items():
            assert torch.equal(field.parameters[back], sign * field.parameters[forward].T)


@pytest.mark.parametrize("sizes", [(4, 1, 1), (1, 1, 1), (5, 3, 1, 1), (2, 1, 1, 3)])
def test_single_weights_have_no_angle_between(sizes):
    for angle in (1e-9, 45.0, 90.0, 179.0):
        with pytest.raises(InputError, match=rf"angle={angle}.*use angle=0, angle=180, or asymm"):
            LeakyField(sizes, angle=angle)
    assert LeakyField(sizes, tied=True).partners() == {}
    back = LeakyField(sizes, asymmetry=0.5).parameters
    assert all(torch.isfinite(p).all() for p in back.values())


@pytest.mark.parametrize("sizes", [(4, 3, 1), (3, 1, 2), (4, 2, 1, 2), (20, 15, 10)])
def test_an_angle_holds_whatever_the_draw(sizes):
    # of two entries a draw can be almost parallel, where one projection leaves rounding alone
    for seed in range(200):
        rng = torch.Generator().manual_seed(seed)
        field = LeakyField(sizes, angle=60.0, dtype=torch.float64, generator=rng)
        for k in range(len(sizes) - 2):
            forward, back = field.forward_weight(k + 1), field.feedback_weight(k)
            cosine = float((forward.T * back).sum() / (forward.norm() * back.norm()))
            assert math.isclose(cosine, 0.5, abs_tol=1e-13)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 180.0])
def test_initial_angle_is_exact(angle):
    field = LeakyField([20, 15, 10, 5], angle=angle, feedback_gain=0.4, dtype=torch.float64)
    for k in range(2):
        forward, back = field.forward_weight(k + 1).T, field.feedback_weight(k)
        cosine = (forward * back).sum() / (forward.norm() * back.norm())
        # arccos is ill-conditioned at 0 and 180 degrees: compare cosines
        assert math.isclose(cosine, math.cos(math.radians(angle)), abs_tol=1e-12)
        assert math.isclose(back.norm() / forward.norm(), 0.4, rel_tol=1e-12)


def test_asymmetry_zero_is_transposed_and_draws_have_the_same_scale():
    field = LeakyField([20, 200, 100], asymmetry=0.0, dtype=torch.float64)
    torch.testing.assert_close(field.feedback_weight(0), field.forward_weight(1).T)
    other = LeakyField([20, 200, 100], asymmetry=2.0, dtype=torch.float64)
    draw = (other.feedback_weight(0) - other.forward_weight(1).T) / 2
    assert abs(draw.norm() / other.forward_weight(1).norm() - 1) < 0.02


def test_tied_feedback_is_a_view_and_no_parameter():
    field = problem(tied=True).field
    assert not any(name.startswith("feedback") for name in field.parameters)
    assert field.feedback_weight(0).data_ptr() == field.forward_weight(1).data_ptr()


def test_same_generator_same_network():
    first, second = (problem(seed=9).field.parameters for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"sizes": (3, -1)}, r"sizes=\[3, -1\]"),
        ({"sizes": (3,)}, r"sizes=\[3\]"),
        ({"angle": 181.0}, "angle=181.0 must lie between 0 and 180"),
        ({"asymmetry": -0.1}, "asymmetry=-0.1"),
        ({"coordinates": "polar"}, "'polar': use one of membrane, activity, clipped"),
        ({"coordinates": "clipped"}, 'use activation="hard-sigmoid"'),
        ({"activation": "reul"}, "'reul' is unknown"),
        ({"gain": 0.0}, "must be positive"),
        ({"gain": math.inf}, "gain=inf and .* must be positive and finite"),
        ({"gain": math.nan}, "gain=nan"),
        ({"gain": 1e-30}, "gain=1e-30, .*: forward.1 leaves the range of torch.float32"),
        ({"gain": 1e30}, "gain=1e[+]30, .*: forward.1 leaves the range of torch.float32"),
        (
            {"sizes": (3, 2, 2), "feedback_gain": 1e-45},
            "feedback_gain=1e-45, .*: feedback.1 leaves the range",
        ),
        ({"asymmetry": math.nan}, "asymmetry=nan must be finite"),
        ({"asymmetry": math.inf}, "asymmetry=inf must be finite"),
        ({"tied": True, "feedback_gain": 0.5}, "no meaning with tied"),
    ],
)
def test_bad_settings(kw, message):
    with pytest.raises(InputError, match=message):
        LeakyField(**({"sizes": (3, 2)} | kw))


@pytest.mark.parametrize("kw", ZOO, ids=str)
def test_the_field_with_explicit_parameters_is_the_field(kw):
    p = problem(**kw)
    s = _inner_state(p)
    again = p.field.explicit_field(p.field.parameters, p.x, s)
    torch.testing.assert_close(again, p.field.driven(p.field.drive(p.x), s), atol=0, rtol=0)
    theta = {k: v.clone().requires_grad_() for k, v in p.field.parameters.items()}
    slopes = torch.autograd.grad(p.field.explicit_field(theta, p.x, s).sum(), [*theta.values()])
    expected = torch.autograd.grad(autograd_field(p, theta, s).sum(), [*theta.values()])
    for got, wanted in zip(slopes, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


def test_a_unit_is_inside_the_box_where_its_current_is():
    field = LeakyField([1, 1, 1], angle=0.0, **clipped(dtype=torch.float64))
    for name, value in {"forward.1": 1.0, "forward.2": 0.0, "feedback.1": 0.0}.items():
        field.parameters[name].fill_(value)
    x = torch.tensor([[-1e-9], [1e-9], [0.5], [1 - 1e-9], [1 + 1e-9]], dtype=torch.float64)
    for s in (x.clamp(0, 1), torch.rand_like(x)):  # wherever its state is
        both = torch.cat((s, torch.zeros_like(s)), 1)
        slope = field.linearise(both, field.drive(x)).slope
        assert slope[:, 0].tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("depth", [1, 3])
def test_the_gradient_of_a_float32_network_in_a_box_is_that_of_float64(depth):
    g = torch.Generator().manual_seed(depth)
    field = LeakyField(
        [784, *[512] * depth, 10], generator=g, feedback_gain=0.3, **clipped(dtype=torch.float32)
    )
    for name, p in field.parameters.items():  # as learning does: units crowd at the walls
        p.add_(torch.randn(p.shape, generator=g), alpha=0.02 if name.startswith("bias") else 0.002)
    x, y = torch.rand(20, 784, generator=g), torch.eye(10).repeat(2, 1)
    cost, settling = get_cost("cross-entropy"), Settling(tolerance=1e-7, free_steps=200)
    single = Implicit(settling)(field, x, y, cost)
    near = (single.free.s[:, : field.output.start] % 1 - 0.5).abs() > 0.5 - 3e-4
    assert 0 < near.sum() < near.numel()
    exact = Implicit(TIGHT)(field.precise(), x.double(), y.double(), cost).updates
    assert distance(single.updates, flat(exact)) < 1e-5


def test_parameters_cannot_be_replaced_behind_the_field_s_back():
    p = problem()
    with pytest.raises(InputError, match="change a tensor in place"):
        p.field.parameters["forward.1"] = torch.zeros(7, 6)
    for change in (dict.clear, dict.popitem):
        with pytest.raises(InputError, match="with_parameters"):
            getattr(p.field.parameters, change.__name__)()
    with pytest.raises(AttributeError):
        p.field.parameters = {}


def test_every_product_sees_a_tensor_given_other_storage():
    p, fresh = problem(), problem(seed=1)
    for name, parameter in p.field.parameters.items():
        parameter.data = fresh.field.parameters[name].clone()
    s = _inner_state(p)
    got, expected = (f.driven(f.drive(p.x), s) for f in (p.field, fresh.field))
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_learns_apart_and_as_a_whole(copied):
    p = problem()
    other, s = copied(p.field), _inner_state(p)
    other.parameters["forward.2"].zero_()
    other.parameters["feedback.1"].add_(1.0)
    expected = autograd_field(p, other.parameters, s)
    torch.testing.assert_close(other.driven(other.drive(p.x), s), expected, atol=1e-14, rtol=0)
    assert p.field.parameters["forward.2"].abs().sum() > 0


def test_a_second_formula_for_mu_is_refused():
    with pytest.raises(InputError, match="Lateral extends LeakyField, whose current"):
        type("Lateral", (LeakyField,), {"field": lambda self, s, drive: -s})
