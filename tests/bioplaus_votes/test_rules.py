"""The directions against autograd, enumeration and the laws of large numbers."""

from __future__ import annotations

import pytest
import torch

from bioplaus_votes import rules
from bioplaus_votes.judges import TableJudge
from nlhf.mixture import geometric_mixture
from nlhf.oracle import solve_equilibrium
from tests import voting_zoo as zoo


def drawn(b: int = 3, k: int = 5, seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(b, k, generator=g, dtype=torch.float64)
    mu = torch.log_softmax(torch.randn(b, k, generator=g, dtype=torch.float64), -1)
    return z, mu, zoo.random_table(b, k, seed)


def test_exact_is_the_slope_of_the_regularised_preference_in_the_logits() -> None:
    z, log_mu, P = drawn()
    log_pi = torch.log_softmax(z, -1)
    other = geometric_mixture(log_pi, log_mu, 0.25)
    z = z.requires_grad_()
    mine = torch.log_softmax(z, -1)
    won = torch.einsum("by,byz,bz->b", mine.exp(), P, other.exp())
    value = won - 0.3 * (mine.exp() * (mine - log_mu)).sum(-1)
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(rules.exact(log_pi, P, other, log_mu, 0.3), slope)


def test_it_vanishes_at_the_equilibrium_alone() -> None:
    _, log_mu, P = drawn(k=4)
    star = solve_equilibrium(P, log_mu, 0.2)
    assert float(rules.exact(star, P, star, log_mu, 0.2).abs().max()) < 1e-14
    off = torch.log_softmax(star + 0.1 * torch.randn(star.shape, dtype=star.dtype), -1)
    assert float(rules.exact(off, P, off, log_mu, 0.2).abs().max()) > 1e-4


@pytest.mark.parametrize("penalty", ["summed", "sampled"])
def test_the_mean_over_all_votes_is_the_exact_direction(penalty: str) -> None:
    z, log_mu, P = drawn(b=1, k=4)
    log_pi = torch.log_softmax(z, -1)
    other, tau = geometric_mixture(log_pi, log_mu, 0.4), 0.3
    ratio, mean = rules.log_ratio(log_pi, log_mu), torch.zeros_like(z)
    for y in range(4):
        for y2 in range(4):
            for bit in (0.0, 1.0):
                p = P[0, y, y2] if bit else 1 - P[0, y, y2]
                weight = log_pi[0, y].exp() * other[0, y2].exp() * p
                signal = bit - 0.5 - (tau * ratio[0, y] if penalty == "sampled" else 0.0)
                signal = torch.as_tensor(signal, dtype=z.dtype).view(1, 1) - 0.123  # any baseline
                mean += weight * rules.of_votes(log_pi, torch.tensor([[y]]), signal)
    if penalty == "summed":
        mean += rules.of_values(log_pi, -tau * ratio)
    torch.testing.assert_close(mean, rules.exact(log_pi, P, other, log_mu, tau))


def test_a_hundred_thousand_votes_are_within_three_standard_errors() -> None:
    z, log_mu, P = drawn(b=1, k=6, seed=2)
    log_pi, n = torch.log_softmax(z, -1), 100_000
    judge, luck = TableJudge(P), torch.Generator().manual_seed(3)
    y = torch.multinomial(log_pi.exp(), n, replacement=True, generator=luck)
    other = torch.multinomial(log_pi.exp(), n, replacement=True, generator=luck)
    bits = judge.vote(torch.tensor([0]), torch.zeros(1, 1, dtype=z.dtype), y, other, luck)
    signal = bits - 0.5 - 0.1 * rules.log_ratio(log_pi, log_mu).gather(-1, y)
    each = (torch.nn.functional.one_hot(y[0], 6) - log_pi.exp()) * signal[0, :, None]
    error = each.std(0) / n**0.5
    exact = rules.exact(log_pi, P, log_pi, log_mu, 0.1)[0]
    found = rules.of_votes(log_pi, y, signal)[0]
    torch.testing.assert_close(found, each.mean(0))
    assert bool(((found - exact).abs() < 3 * error).all())


def test_the_mean_over_a_design_of_pairs_is_the_exact_direction() -> None:
    z, log_mu, P = drawn(b=1, k=4, seed=5)
    log_pi = torch.log_softmax(z, -1)
    other, tau, mean = geometric_mixture(log_pi, log_mu, 0.2), 0.1, torch.zeros_like(z)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    shares = torch.rand(len(pairs), dtype=z.dtype) + 0.1
    shares /= shares.sum()
    for (i, j), q in zip(pairs, shares, strict=True):
        for bit in (0.0, 1.0):
            p = P[0, i, j] if bit else 1 - P[0, i, j]
            pair = (torch.tensor([i]), torch.tensor([j]), z.new_tensor([bit]), q[None])
            mean += q * p * rules.of_pair(log_pi, other, *pair, log_mu, tau)
    torch.testing.assert_close(mean, rules.exact(log_pi, P, other, log_mu, tau))


def test_a_natural_step_is_one_of_mirror_descent() -> None:
    z, log_mu, P = drawn()
    log_pi = torch.log_softmax(z, -1)
    g = rules.natural(rules.exact(log_pi, P, log_pi, log_mu, 0.2), log_pi)
    a = (P @ log_pi.exp()[..., None])[..., 0] - 0.2 * rules.log_ratio(log_pi, log_mu)
    step = torch.log_softmax(log_pi + 0.7 * a, -1)
    torch.testing.assert_close(torch.log_softmax(z + 0.7 * g, -1), step)


def test_leaving_one_out_is_free_of_the_vote_itself() -> None:
    signal = torch.tensor([[1.0, 2.0, 6.0]])
    torch.testing.assert_close(rules.leave_one_out(signal), torch.tensor([[4.0, 3.5, 1.5]]))


def test_answers_outside_the_reference_are_never_given() -> None:
    z, log_mu, P = drawn(b=1, k=4)
    log_mu = torch.tensor([[0.5, 0.0, 0.25, 0.25]], dtype=z.dtype).log()
    log_pi = rules.log_policy(z, log_mu)
    g = rules.exact(log_pi, P, geometric_mixture(log_pi, log_mu, 0.3), log_mu, 0.1)
    assert float(log_pi[0, 1].exp()) == 0.0
    assert float(g[0, 1]) == 0.0
    assert bool(torch.isfinite(g).all())
    assert float(g.sum().abs()) < 1e-15
