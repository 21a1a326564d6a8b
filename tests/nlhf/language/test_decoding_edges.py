"""Where sampling could fall off an edge: ties, the ends of [0, 1), rounding, NaN."""

import math

import pytest
import torch

from nlhf.language.decoding import Sampling, decode, truncated
from tests.policies import PROMPTS, make_policy

LENGTH = 3
LARGEST = math.nextafter(1.0, 0.0)


def kept(log_q, top_k=None, top_p=None):
    return torch.isfinite(truncated(log_q[None], top_k, top_p))[0].tolist()


def test_top_p_stops_where_its_share_is_reached_exactly():
    even = torch.zeros(4, dtype=torch.float64)  # four of exactly 1/4
    assert kept(even, top_p=0.25) == [True, False, False, False]
    assert kept(even, top_p=0.5) == [True, True, False, False]
    assert kept(even, top_p=math.nextafter(0.5, 1.0)) == [True, True, True, False]
    assert kept(even, top_p=math.nextafter(0.5, 0.0)) == [True, True, False, False]


def test_the_most_likely_token_is_kept_however_small_top_p_is():
    log_q = torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64).log()
    assert kept(log_q, top_p=1e-300) == [False, True, False]


@pytest.mark.parametrize("cut", [{"top_k": 300}, {"top_p": 0.5859375}], ids=str)
def test_of_equally_likely_tokens_the_first_are_kept(cut):
    # enough of them that a sort which is not stable would mix them up; 300 / 512 is exact
    even = torch.zeros(512, dtype=torch.float64)
    assert kept(even, **cut) == [True] * 300 + [False] * 212


@pytest.fixture(scope="module")
def policy():
    return make_policy()


def drawn(policy, u, **cuts):
    """The tokens of two answers of the policy and two of the mixture a prompt, all drawn at u."""
    draws = torch.full((4 * len(PROMPTS), LENGTH), u, dtype=torch.float64)
    seen = []
    sampling = Sampling(LENGTH, truncate_own=True, **cuts)
    encoded = policy.encode(PROMPTS)
    answers = decode(
        policy, encoded, 2, 2, 0.4, sampling, draws, observe=lambda t, q: seen.append(q)
    )
    return answers, torch.stack(seen, 1)


@pytest.mark.parametrize("u", [0.0, 1e-300, 0.5, LARGEST, 1.0], ids=str)
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
