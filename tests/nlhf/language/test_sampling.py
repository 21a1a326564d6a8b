"""Sampling: what a cut keeps, at its edges too, and that tokens have their probabilities."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from nlhf.errors import InputError
from nlhf.language.cuts import truncated
from nlhf.language.decoding import Sampling, decode, draw_tokens, draw_uniforms
from tests.policies import PROMPTS, make_policy

BELOW_ONE = 1 - 2.0**-53


def kept(p, top_k=None, top_p=None, dtype=torch.float64):
    log_q = torch.tensor([p], dtype=dtype).log()
    return torch.isfinite(truncated(log_q, top_k, top_p))[0].nonzero()[:, 0].tolist()


def test_of_equally_likely_tokens_the_first_are_kept():
    assert kept([0.2, 0.4, 0.4], top_k=1) == [1]
    assert kept([0.25] * 4, top_k=3) == [0, 1, 2]
    assert kept([0.2, 0.4, 0.4], top_p=0.3) == [1]
    assert kept([0.25] * 4, top_p=0.6) == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_set_that_reaches_top_p_exactly_is_enough(dtype):
    assert kept([0.5, 0.25, 0.25], top_p=0.5, dtype=dtype) == [0]
    assert kept([0.5, 0.25, 0.25], top_p=0.75, dtype=dtype) == [0, 1]
    # float32(0.7) < 0.7, and ten times 0.1 is not 1
    assert kept([0.7, 0.3], top_p=0.7, dtype=dtype) == [0]
    for n in range(1, 10):
        assert kept([0.1] * 10, top_p=n / 10, dtype=dtype) == list(range(n))


def test_a_set_that_misses_top_p_by_sixteen_eps_is_enough_and_by_more_is_not():
    eps = torch.finfo(torch.float64).eps
    assert kept([0.5, 0.5], top_p=0.5 * (1 + 16 * eps)) == [0]
    assert kept([0.5, 0.5], top_p=0.5 * (1 + 20 * eps)) == [0, 1]


def test_the_most_likely_token_is_kept_by_the_smallest_top_p():
    assert kept([0.1, 0.9], top_p=5e-324) == [1]
    assert kept([1.0, 0.0], top_p=1e-300) == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_p_of_one_keeps_tokens_that_rounding_would_lose(dtype):
    p = [0.5, 0.5 - 1e-30, 1e-30, 1e-35]
    assert kept(p, top_p=1.0, dtype=dtype) == [0, 1, 2, 3]
    assert kept(p, top_p=0.9999, dtype=dtype) == [0, 1]


def test_forbidden_tokens_stay_forbidden():
    assert kept([0.0, 0.6, 0.4, 0.0], top_k=3) == [1, 2]
    assert kept([0.0, 0.6, 0.4, 0.0], top_k=3, top_p=1.0) == [1, 2]


@st.composite
def distributions(draw):
    n = draw(st.integers(2, 12))
    weights = draw(st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 1.0, 3.0]), min_size=n))
    return weights if max(weights) >= 0.1 else [*weights, 1.0]


@settings(max_examples=150, deadline=None)
@given(distributions(), st.sampled_from([None, 1, 3]), st.floats(1e-6, 1.0))
def test_the_set_is_the_smallest_of_the_most_likely(weights, top_k, top_p):
    p = torch.tensor(weights, dtype=torch.float64)
    p = p / p.sum()
    ours = kept((p).tolist(), top_k, top_p)
    ranked = sorted((i for i in range(len(p)) if p[i] > 0), key=lambda i: (-float(p[i]), i))
    ranked = ranked[:top_k]
    total, chosen = math.fsum(float(p[i]) for i in ranked), []
    for i in ranked:
        if chosen and top_p < 1:
            mass = math.fsum(float(p[j]) for j in chosen) / total
            if abs(mass - top_p) < 1e-12:
                return  # on the edge: the tests above say what happens there
            if mass > top_p:
                break
        chosen.append(i)
    assert ours == sorted(chosen)


@settings(max_examples=200, deadline=None)
@given(distributions(), st.one_of(st.sampled_from([0.0, BELOW_ONE]), st.floats(0, BELOW_ONE)))
def test_a_token_of_probability_zero_is_never_drawn(weights, u):
    log_q = torch.tensor([weights], dtype=torch.float64).log()
    token = int(draw_tokens(log_q, torch.tensor([u], dtype=torch.float64)))
    assert weights[token] > 0
    below = math.fsum(weights[:token]) / math.fsum(weights)
    upto = math.fsum(weights[: token + 1]) / math.fsum(weights)
    assert below - 1e-14 <= u <= upto + 1e-14


def test_the_edges_of_the_unit_interval_draw_the_first_and_last_possible_token():
    weights = [0.0, 0.0, 0.3, 0.0, 0.7, 0.0]
    log_q = torch.tensor([weights] * 2, dtype=torch.float64).log()
    assert draw_tokens(log_q, torch.tensor([0.0, BELOW_ONE], dtype=torch.float64)).tolist() == [
        2,
        4,
    ]


def test_the_largest_number_stays_below_the_sum_however_it_is_rounded():
    g = torch.Generator().manual_seed(2)
    log_q = 30 * torch.rand(5000, 3, generator=g, dtype=torch.float64) - 20
    log_q = torch.cat((log_q, torch.full((5000, 1), -torch.inf)), 1)
    highest = torch.full((5000,), BELOW_ONE, dtype=torch.float64)
    assert int(draw_tokens(log_q, highest).max()) == 2


def test_a_large_vocabulary_never_gives_its_forbidden_end():
    g = torch.Generator().manual_seed(0)
    log_q = torch.randn(200, 5000, generator=g, dtype=torch.float64).log_softmax(-1)
    log_q[:, 4000:] = -torch.inf
    highest = torch.full((200,), BELOW_ONE, dtype=torch.float64)
    assert int(draw_tokens(log_q, highest).max()) < 4000


@pytest.mark.parametrize("cut", [{"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.8}])
def test_answers_have_the_frequencies_of_the_cut_distribution(cut):
    policy = make_policy()
    n, seen = 8000, []
    draws = draw_uniforms(n, 1, torch.Generator().manual_seed(4))
    sampling = Sampling(1, temperature=0.8, **cut)
    encoded = policy.encode(["a b"])
    answers = decode(
        policy, encoded, 0, n, 0.3, sampling, draws, observe=lambda t, q: seen.append(q)
    )
    cut_log = truncated(seen[0][:1], sampling.top_k, sampling.top_p)[0]
    p = torch.softmax(cut_log, -1)
    counted = torch.bincount(answers.tokens[:, 0], minlength=len(p)).double()
    possible = p > 0
    assert int(counted[~possible].sum()) == 0
    assert not bool(possible.all())
    expected = n * p[possible]
    chi = float(((counted[possible] - expected) ** 2 / expected).sum())
    # 0.1 % quantiles of chi squared with 0 to 4 degrees of freedom
    assert chi < [1e-9, 10.9, 13.9, 16.3, 18.5][int(possible.sum()) - 1]


@pytest.mark.parametrize("wrong", [-1e-9, 1.0, float("nan")])
def test_numbers_outside_of_the_unit_interval_are_refused(wrong):
    policy = make_policy()
    draws = torch.full((len(PROMPTS), 2), 0.5, dtype=torch.float64)
    draws[0, 0] = wrong
    with pytest.raises(InputError, match=r"must lie in \[0, 1\)"):
        decode(policy, policy.encode(PROMPTS), 1, 0, 0.0, Sampling(2), draws)
    with pytest.raises(InputError, match=r"must be \[4, 4\]"):
        decode(policy, policy.encode(PROMPTS), 1, 0, 0.0, Sampling(4), draws)
