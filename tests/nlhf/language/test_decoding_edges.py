"""Whole answers drawn at the ends of [0, 1), and by a policy that gives NaN."""

import math

import pytest
import torch

from nlhf.language.decoding import Sampling, decode
from tests.policies import PROMPTS, make_policy

LENGTH = 3
LARGEST = math.nextafter(1.0, 0.0)


@pytest.fixture(scope="module")
def policy():
    return make_policy()


def drawn(policy, u, **cuts):
    """The tokens of two answers of the policy and two of the mixture per prompt, all drawn at u."""
    draws = torch.full((4 * len(PROMPTS), LENGTH), u, dtype=torch.float64)
    seen = []
    sampling = Sampling(LENGTH, truncate_own=True, **cuts)
    encoded = policy.encode(PROMPTS)
    answers = decode(
        policy, encoded, 2, 2, 0.4, sampling, draws, observe=lambda t, q: seen.append(q)
    )
    return answers, torch.stack(seen, 1)


@pytest.mark.parametrize("u", [0.0, 1e-300, 0.5, LARGEST], ids=str)
@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-9}], ids=str)
def test_no_draw_gives_a_token_that_was_cut(policy, u, cut):
    answers, log_q = drawn(policy, u, **cut)
    best = log_q.argmax(-1)
    assert torch.equal(answers.tokens[answers.mask], best[answers.mask])
    middle = (best[answers.mask] > 0) & (best[answers.mask] < log_q.shape[-1] - 1)
    assert bool(middle.any())  # or neither end of the vocabulary would be tried


def test_the_ends_of_the_interval_are_the_ends_of_the_vocabulary(policy):
    last = policy.config.vocab_size - 1
    assert set(drawn(policy, 0.0)[0].tokens[:, 0].tolist()) == {0}
    assert set(drawn(policy, LARGEST)[0].tokens[:, 0].tolist()) == {last}


def test_a_draw_on_a_boundary_gives_the_token_above_it(policy):
    _, log_q = drawn(policy, 0.5)
    first = log_q[0, 0].exp()
    for u, token in ((float(first[0]) * (1 - 1e-12), 0), (float(first[0]) * (1 + 1e-12), 1)):
        draws = torch.full((1, 1), u, dtype=torch.float64)
        encoded = policy.encode(PROMPTS[:1])
        assert decode(policy, encoded, 1, 0, 0.0, Sampling(1), draws).tokens.tolist() == [[token]]


def test_a_policy_that_diverged_draws_tokens_that_exist():
    policy = make_policy()
    with torch.no_grad():
        next(iter(policy.trainable().values())).fill_(torch.nan)
    answers, _ = drawn(policy, 0.5)
    assert bool(torch.isnan(answers.log_pi[answers.mask]).any())
    assert 0 <= int(answers.tokens.min()) <= int(answers.tokens.max()) < policy.config.vocab_size
