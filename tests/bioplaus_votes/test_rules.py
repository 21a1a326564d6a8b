"""The directions against autograd, enumeration and the laws of large numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

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


def all_votes(
    log_pi: torch.Tensor, log_other: torch.Tensor, P: torch.Tensor
) -> Iterator[tuple[float, torch.Tensor, torch.Tensor, float]]:
    """Each vote that can be cast on one row: its probability, both answers, and the bit."""
    k = log_pi.shape[-1]
    for y, other, bit in itertools.product(range(k), range(k), (0.0, 1.0)):
        p = P[0, y, other] if bit else 1 - P[0, y, other]
        weight = float(log_pi[0, y].exp() * log_other[0, other].exp() * p)
        yield weight, torch.tensor([[y]]), torch.tensor([[other]]), bit


@pytest.mark.parametrize("penalty", ["summed", "sampled"])
def test_the_mean_over_all_votes_is_the_exact_direction(penalty: str) -> None:
    z, log_mu, P = drawn(b=1, k=4)
    log_pi, tau = torch.log_softmax(z, -1), 0.3
    log_other = geometric_mixture(log_pi, log_mu, 0.4)
    ratio, baseline = rules.log_ratio(log_pi, log_mu), 0.123  # any baseline
    one_sided, both_sides = torch.zeros_like(z), torch.zeros_like(z)
    for weight, y, other, bit in all_votes(log_pi, log_other, P):
        signals = [
            sign * (bit - 0.5)
            - (tau * ratio.gather(-1, answer) if penalty == "sampled" else 0.0)
            - torch.full_like(z[:, :1], baseline)
            for sign, answer in ((1, y), (-1, other))
        ]
        one_sided += weight * rules.of_votes(log_pi, y, signals[0])
        both_sides += weight * rules.of_comparisons(log_pi, log_other, y, other, *signals)
    exact = rules.exact(log_pi, P, log_other, log_mu, tau)
    if penalty == "summed":
        exact -= rules.of_values(log_pi, -tau * ratio)
    torch.testing.assert_close(one_sided, exact)
    torch.testing.assert_close(both_sides, exact)


@pytest.mark.parametrize(("mixture", "most"), [(0.0, 0.5), (0.4, 1.0), (1.0, 1.0)])
def test_a_vote_used_for_both_answers_varies_less(mixture: float, most: float) -> None:
    z, log_mu, P = drawn(b=1, k=4)
    log_pi = torch.log_softmax(z, -1)
    log_other = geometric_mixture(log_pi, log_mu, mixture)
    mean = rules.exact(log_pi, P, log_other, log_mu, 0.0)
    variance = {"one": 0.0, "both": 0.0}
    for weight, y, other, bit in all_votes(log_pi, log_other, P):
        signal = torch.full_like(z[:, :1], bit - 0.5)
        one = rules.of_votes(log_pi, y, signal)
        both = rules.of_comparisons(log_pi, log_other, y, other, signal, -signal)
        variance["one"] += weight * float((one - mean).square().sum())
        variance["both"] += weight * float((both - mean).square().sum())
    assert variance["both"] < most * variance["one"]


def test_an_answer_compared_with_itself_says_nothing() -> None:
    z, log_mu, _ = drawn(b=1, k=4)
    log_pi, y = torch.log_softmax(z, -1), torch.tensor([[2]])
    log_other = geometric_mixture(log_pi, log_mu, 0.4)
    signal = torch.full_like(z[:, :1], 0.5)
    g = rules.of_comparisons(log_pi, log_other, y, y, signal, -signal)
    torch.testing.assert_close(g, torch.zeros_like(g))


def test_a_hundred_thousand_votes_are_within_three_standard_errors() -> None:
    z, log_mu, P = drawn(b=1, k=6, seed=2)
    log_pi, n = torch.log_softmax(z, -1), 100_000
    judge, luck = TableJudge(P), torch.Generator().manual_seed(3)
    y = torch.multinomial(log_pi.exp(), n, replacement=True, generator=luck)
    other = torch.multinomial(log_pi.exp(), n, replacement=True, generator=luck)
    bits = judge.vote(torch.tensor([0]), torch.zeros(1, 1, dtype=z.dtype), y, other, luck)
    ratio = rules.log_ratio(log_pi, log_mu)
    signals = [
        sign * (bits - 0.5) - 0.1 * ratio.gather(-1, answer)
        for sign, answer in ((1, y), (-1, other))
    ]
    each = sum(
        (torch.nn.functional.one_hot(answer[0], 6) - log_pi.exp()) * signal[0, :, None] / 2
        for answer, signal in zip((y, other), signals, strict=True)
    )  # the opponent is the policy: both orders are equally probable
    error = each.std(0) / n**0.5
    exact = rules.exact(log_pi, P, log_pi, log_mu, 0.1)[0]
    found = rules.of_comparisons(log_pi, log_pi, y, other, *signals)[0]
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
