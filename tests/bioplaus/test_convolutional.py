"""Stacks of convolutions: exact gradients at reduced width; backpropagation without feedback."""

import pytest
import torch
import torch.nn.functional as F

from bioplaus import (
    AsymEP,
    Dyadic,
    Implicit,
    RecurrentBackprop,
    Settling,
    VectorFieldEP,
    check_field,
)
from bioplaus.config import EqpropConfig, Task
from bioplaus.costs import get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.fields.convolutional import convolutional
from bridge.config import load_config

TIGHT = Settling(tolerance=1e-12, free_steps=2000, nudged_steps=2000, verify=False)
COST = get_cost("cross-entropy")
FOUR = {"channels": (3, 4, 5, 6)}
SIX = {"channels": (3, 4, 4, 5, 5, 6), "unpooled": (1, 3)}
SKIPPING = {"channels": (3, 4, 4, 5), "unpooled": (2,), "skips": (1, 2)}
SMOOTH = {"activation": "dsilu", "gain": 1.5}


def _net(seed: int = 0, **settings):
    g = torch.Generator().manual_seed(seed)
    net = convolutional((3, 16, 16), 4, generator=g, dtype=torch.float64, **settings)
    for name, p in net.parameters.items():
        if name.startswith("bias"):
            p.add_(0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return net


def _batch(rows: int = 3):
    g = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 3, 16, 16, generator=g, dtype=torch.float64)
    return x, one_hot(torch.arange(rows) % 4, 4, torch.float64)


def _cosine(a: dict, b: dict) -> float:
    flat = [torch.cat([each[name].flatten() for name in b]) for each in (a, b)]
    return float(F.cosine_similarity(*flat, dim=0))


@pytest.mark.parametrize("shape", [FOUR, SIX, SKIPPING], ids=["four", "six", "skipping"])
@pytest.mark.parametrize(
    "kind",
    [
        {**SMOOTH, "pool": "average"},
        {**SMOOTH, "pool": "softmax"},
        {"activation": "relu", "pool": "max", "gain": 1.0, "feedback_gain": 0.2},
        {"activation": "relu6", "pool": "average"},
        {"activation": "hard-sigmoid", "coordinates": "clipped", "gain": 2.0},
    ],
    ids=["dsilu", "softmax", "max", "relu6", "clipped"],
)
def test_the_exact_rule_is_the_true_gradient_for_independent_feedback(shape, kind):
    """Each parameter is checked by itself, because plain rules go wrong in the lowest layers."""
    net = _net(**({"feedback_gain": 0.5} | kind | shape))
    x, y = _batch()
    truth = Implicit(settling=TIGHT)(net, x, y, COST).updates
    found = AsymEP(settling=TIGHT, beta=1e-4)(net, x, y, COST)
    assert bool(found.free.converged.all())
    for name, true in truth.items():
        if float(true.norm()) > 0:
            assert _cosine({name: found.updates[name]}, {name: true}) > 0.9999, name
            torch.testing.assert_close(
                found.updates[name], true, rtol=0, atol=0.01 * float(true.norm())
            )


def test_the_plain_rule_has_no_signal_in_the_lowest_layer():
    net = _net(feedback_gain=0.5, **SMOOTH, **FOUR)
    x, y = _batch()
    truth = Implicit(settling=TIGHT)(net, x, y, COST).updates
    plain = VectorFieldEP(settling=TIGHT, beta=1e-4)(net, x, y, COST).updates
    exact = Dyadic(settling=TIGHT, beta=1e-4)(net, x, y, COST).updates
    assert abs(_cosine({"w": plain["forward.1"]}, {"w": truth["forward.1"]})) < 0.7
    assert _cosine(exact, truth) > 0.9999


@pytest.mark.parametrize("pool", ["average", "max"])
def test_without_feedback_the_gradient_is_that_of_backpropagation(pool):
    """The oracle is torch's own network; autograd gives its gradient."""
    net = _net(feedback="none", activation="relu", pool=pool, **FOUR)
    x, y = _batch()
    own = RecurrentBackprop(settling=TIGHT, dt=1.0, adjoint_tolerance=1e-12)(
        net, x, y, COST
    ).updates
    leaves = {name: p.clone().requires_grad_() for name, p in net.parameters.items()}
    r = x
    for k in range(1, 5):
        a = F.conv2d(r, leaves[f"forward.{k}"], padding=1)
        a = F.avg_pool2d(a, 2) if pool == "average" else F.max_pool2d(a, 2)
        r = torch.relu(a + leaves[f"bias.{k}"][:, None, None])
    z = r.flatten(1) @ leaves["forward.5"].T + leaves["bias.5"]
    F.cross_entropy(z, y.argmax(1)).backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(own[name], -leaf.grad, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(net.predict(x, settling=TIGHT), z.detach())


def test_feedback_starts_at_ninety_degrees_and_tied_is_the_transpose():
    net = convolutional((3, 16, 16), 10, (16, 32, 32), generator=torch.Generator().manual_seed(0))
    pairs = net.partners()
    assert set(pairs) == {"feedback.1", "feedback.2", "feedback.3"}
    for back, forward in pairs.items():
        w, b = net.mirror(back, net.parameters[forward]), net.parameters[back]
        cosine = float(F.cosine_similarity(w.flatten(), b.flatten(), dim=0))
        assert abs(cosine) < 5 / w.numel() ** 0.5
    tied = _net(feedback="tied", coordinates="activity", activation="dsilu", channels=(3, 4, 5))
    x, y = _batch()
    truth = Implicit(settling=TIGHT)(tied, x, y, COST).updates
    plain = VectorFieldEP(settling=TIGHT, beta=1e-4)(tied, x, y, COST).updates
    assert _cosine(plain, truth) > 0.9999


def test_the_methods_are_those_of_the_formula():
    g = torch.Generator().manual_seed(0)
    shape = {"channels": (2, 2, 2), "unpooled": (2,), "skips": (1,)}
    check_field(convolutional((1, 8, 8), 2, feedback_gain=0.5, generator=g, **SMOOTH, **shape))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("network.channels=[]", "channels=.. has no convolution"),
        ("network.feedback=mirror", "feedback='mirror' is unknown; use one of independent"),
        ("network.kernel=2", "kernel=2 must be odd"),
        ("network.unpooled=[7]", "unpooled=7 names no convolution; they are 1 to 4"),
        ("network.skips=[3]", "skips=3: there is no convolution two layers above it; use 1 to 2"),
        ("network.channels=[2,2,2,2,2,2]", "convolution 6 is over 1 x 1"),
        ("network.coordinates=clipped", 'use activation="hard-sigmoid"'),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(settings, words):
    config = load_config(EqpropConfig, sets=["network.field=convolutional", settings])
    with pytest.raises(InputError, match=words) as caught:
        config.network.draw(Task((3, 32, 32), 10))
    assert "convolutional.py" not in str(caught.value)
