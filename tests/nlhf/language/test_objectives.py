"""Losses on answers small enough to work out by hand: their gradients token by token."""

import pytest
import torch

from nlhf.language.objectives import (
    Sampled,
    divergence,
    ipo_loss,
    policy_gradient_loss,
    returns,
    value_loss,
)

TAU = 0.1


def sampled(rewards, ratios=None, mask=None, **more):
    """One prompt with one answer per reward; log-ratios of its tokens (zero if not given)."""
    n = len(rewards)
    gaps = torch.tensor(ratios or [[0.0, 0.0]] * n, dtype=torch.float64)[None]
    log_pi = gaps.clone().requires_grad_()
    kept = torch.ones_like(gaps) if mask is None else torch.tensor(mask, dtype=torch.float64)[None]
    reward = torch.tensor(rewards, dtype=torch.float64)[None]
    return Sampled(log_pi, torch.zeros_like(gaps), kept, reward, **more)


def push(batch, baseline, middle=0.5):
    """The push on each token's log-probability: minus the loss's gradient times n."""
    loss = policy_gradient_loss(batch, TAU, baseline, middle)
    (slope,) = torch.autograd.grad(loss, [batch.log_pi])
    return (-slope * batch.reward.shape[1])[0].tolist()


def test_leave_one_out_is_the_mean_of_the_others():
    # the others' means are 1/4, 3/4 and 1/2
    got = push(sampled([1.0, 0.0, 0.5]), "leave-one-out")
    assert got == [[0.75, 0.75], [-0.75, -0.75], [0.0, 0.0]]


def test_the_others_count_with_their_costs():
    # answers are worth 1 - .1 (2 + 3) = .5 and 0 - .1 (1 - 4) = .3; tokens to go cost .5, .3
    # and -.3, -.4
    got = push(sampled([1.0, 0.0], [[2.0, 3.0], [1.0, -4.0]]), "leave-one-out")
    expected = [[1 - 0.5 - 0.3, 1 - 0.3 - 0.3], [0 + 0.3 - 0.5, 0 + 0.4 - 0.5]]
    torch.testing.assert_close(got, expected)


def test_a_token_answers_for_its_own_log_ratio_and_later_ones():
    got = push(sampled([0.9], [[2.0, 3.0]]), "half")
    torch.testing.assert_close(got, [[0.9 - 0.5 - 0.5, 0.9 - 0.3 - 0.5]])


def test_whole_divergences_count_once_later_ones_in_the_score_all_by_their_own_gradient():
    spread = torch.tensor([[[2.0, 3.0]]], dtype=torch.float64, requires_grad=True)
    batch = sampled([0.9], divergence=spread)
    loss = policy_gradient_loss(batch, TAU, "half", 0.5)
    on_tokens, on_spread = torch.autograd.grad(loss, [batch.log_pi, spread])
    # the first token answers for the second's divergence, none for its own
    torch.testing.assert_close((-on_tokens).tolist(), [[[0.9 - 0.3 - 0.5, 0.9 - 0.5]]])
    assert on_spread.tolist() == [[[TAU, TAU]]]
    torch.testing.assert_close(returns(batch, TAU).tolist(), [[[0.9 - 0.3, 0.9]]])


def test_what_lies_after_an_answer_s_end_does_not_count():
    batch = sampled([0.9], [[2.0, 30.0]], mask=[[1, 0]])
    torch.testing.assert_close(push(batch, "half"), [[0.9 - 0.2 - 0.5, 0.0]])


def test_a_learned_baseline_stands_at_each_token():
    value = torch.tensor([[[0.3, 0.6]]], dtype=torch.float64)
    torch.testing.assert_close(push(sampled([0.9], value=value), "learned"), [[0.6, 0.3]])


def test_value_loss_is_half_the_mean_square_of_what_counts():
    value = torch.tensor([[[1.0, 2.0, 9.0]]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[[1.0, 1.0, 0.0]]], dtype=torch.float64)
    target = torch.tensor([[[0.0, 5.0, 0.0]]], dtype=torch.float64)
    loss = value_loss(value, target, mask)
    assert loss.item() == pytest.approx((1 + 9) / 2 / 2)
    (slope,) = torch.autograd.grad(loss, [value])
    assert slope.tolist() == [[[0.5, -1.5, 0.0]]]  # (value - target) over the number that counts
    assert value_loss(value, target, torch.zeros_like(mask)).item() == 0


def test_ipo_by_hand():
    # h = (.3, -.1); P(y > y') = .7: a gap of .4 where (.7 - .5) / .1 = 2 is wanted
    batch = sampled([0.0, 0.0], [[0.1, 0.2], [-0.1, 0.0]])
    preference = torch.tensor([[[0.5, 0.7], [0.3, 0.5]]], dtype=torch.float64)
    loss = ipo_loss(batch, preference, TAU)
    assert loss.item() == pytest.approx(TAU / 4 * (0.4 - 2) ** 2)
    (slope,) = torch.autograd.grad(loss, [batch.log_pi])
    torch.testing.assert_close(slope[0].tolist(), [[TAU / 2 * -1.6] * 2, [TAU / 2 * 1.6] * 2])


def test_divergence_is_kl_of_the_policy_from_the_reference():
    pi, mu = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert divergence(pi.log(), mu.log()).item() == pytest.approx(0.5 * 0.6931472, rel=1e-6)
