"""Tied weights: the update against the contrast of two nudged states, Laborieux et al. 2021."""

import pytest
import torch

from bioplaus import estimate_gradient
from tests.fields import TIGHT, clipped, problem


def tied(seed):
    """Three layers in the box, their outputs too, and inputs that keep them off its walls."""
    return problem(
        sizes=(8, 6, 5, 3), **clipped(tied=True, linear_output=False, gain=0.3, seed=seed)
    )


def states(p, beta, steps=400):
    """Layers of s = clip(W below + b + W^T above + beta (y - s)), by plain relaxation."""
    w = [p.field.parameters[f"forward.{k}"] for k in (1, 2, 3)]
    b = [p.field.parameters[f"bias.{k}"] for k in (1, 2, 3)]
    s = [torch.zeros(len(p.x), len(each), dtype=torch.float64) for each in b]
    for _ in range(steps):
        currents = [
            p.x @ w[0].T + b[0] + s[1] @ w[1],
            s[0] @ w[1].T + b[1] + s[2] @ w[2],
            s[1] @ w[2].T + b[2] + beta * (p.y - s[2]),
        ]
        s = [own + 0.3 * (a.clamp(0, 1) - own) for own, a in zip(s, currents, strict=True)]
    return [p.x, *s]


def product(post, pre):
    """The mean over rows of post pre^T."""
    return post.T @ pre / len(pre)


def contrast(plus, minus, beta):
    """d/dW of [Phi(s_beta) - Phi(s_-beta)] / (2 beta), with Phi = sum_k s_k^T W_k s_{k-1}."""
    return {
        f"forward.{k}": (product(plus[k], plus[k - 1]) - product(minus[k], minus[k - 1]))
        / (2 * beta)
        for k in (1, 2, 3)
    }


def linearised(plus, minus, presynaptic, beta):
    """dW_k = ds_k r_{k-1}^T + r_k ds_{k-1}^T with ds = (s_beta - s_-beta) / (2 beta)."""
    change = [(a - b) / (2 * beta) for a, b in zip(plus, minus, strict=True)]
    updates = {"forward.1": product(change[1], presynaptic[0])}
    for k in (2, 3):
        updates[f"forward.{k}"] = product(change[k], presynaptic[k - 1])
        updates[f"forward.{k}"] += product(presynaptic[k], change[k - 1])
    return updates


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_presynaptic_activities_are_those_of_the_free_phase(seed, beta):
    p = tied(seed)
    free, plus, minus = (states(p, nudge) for nudge in (0.0, beta, -beta))
    ours = estimate_gradient(p.field, p.x, p.y, beta=beta, settling=TIGHT).updates
    theirs = contrast(plus, minus, beta)
    for name, update in linearised(plus, minus, free, beta).items():
        assert (ours[name] - update).norm() < 1e-10 * update.norm()
    # the input does not move, so that the first layer and the biases are the same in both
    assert (ours["forward.1"] - theirs["forward.1"]).norm() < 1e-10 * ours["forward.1"].norm()
    for k in (1, 2, 3):
        change = ((plus[k] - minus[k]) / (2 * beta)).mean(0)
        assert (ours[f"bias.{k}"] - change).norm() < 1e-10 * change.norm()
    # theirs is our rule with the mean of the nudged states for the free one, exactly
    means = [(a + b) / 2 for a, b in zip(plus, minus, strict=True)]
    for name, update in linearised(plus, minus, means, beta).items():
        assert (theirs[name] - update).norm() < 1e-12 * update.norm()


def test_the_two_conventions_differ_by_the_square_of_beta():
    p = tied(0)
    for name, value in p.field.parameters.items():
        if name.startswith("bias"):
            value.fill_(0.3)
        else:
            value.mul_(0.5)
    # no unit meets a wall, where the states have corners
    moved = torch.cat([torch.cat(states(p, beta)[1:], 1) for beta in (0.2, -0.2)])
    assert moved.min() > 0
    assert moved.max() < 1
    apart = []
    for beta in (0.2, 0.1, 0.05):
        plus, minus = states(p, beta), states(p, -beta)
        ours = estimate_gradient(p.field, p.x, p.y, beta=beta, settling=TIGHT).updates
        theirs = contrast(plus, minus, beta)
        apart.append(float((ours["forward.2"] - theirs["forward.2"]).norm()))
    assert apart[0] > 1e-6
    assert apart[0] / apart[1] == pytest.approx(4, rel=0.2)
    assert apart[1] / apart[2] == pytest.approx(4, rel=0.1)
