"""The mixture over whole answers and the one at each prefix: where they are one, and where not."""

import pytest
import torch

from nlhf.language.enumeration import (
    enumerate_language,
    log_probabilities,
    mixture_log_probabilities,
    sequence_mixture,
)
from nlhf.language.loading import load_policy


@torch.no_grad()
def both(length, weight):
    """Token-level and sequence-level mixtures of a policy moved off its reference, and the two."""
    policy = load_policy("tiny:a,b,c", dtype=torch.float64, seed=0)
    g = torch.Generator().manual_seed(0)
    for parameter in policy.trainable().values():
        parameter += 0.3 * torch.randn(parameter.shape, generator=g, dtype=parameter.dtype)
    language = enumerate_language(policy, "a", length)
    log_pi = log_probabilities(policy, language)
    log_mu = log_probabilities(policy, language, reference=True)
    token = mixture_log_probabilities(policy, language, weight)
    return token, sequence_mixture(log_pi, log_mu, weight), log_pi, log_mu


@pytest.mark.parametrize(("length", "weight"), [(1, 0.3), (3, 0.0), (3, 1.0)])
def test_they_are_one_for_one_token_and_at_the_ends(length, weight):
    token, sequence, log_pi, log_mu = both(length, weight)
    torch.testing.assert_close(token, sequence, rtol=0, atol=1e-12)
    if weight in (0, 1):
        torch.testing.assert_close(sequence, log_mu if weight else log_pi, rtol=0, atol=1e-12)


def test_they_differ_for_more_tokens_by_the_normalisers_of_the_prefixes():
    token, sequence, log_pi, log_mu = both(3, 0.5)
    assert token.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert 0.5 * (token.exp() - sequence.exp()).abs().sum() > 0.01
    # pi^(1-w) mu^w over the token-level mixture is the product of normalisers <= 1 at the prefixes
    # (Hoelder), and its mean under the mixture is the one normaliser of the sequence-level mixture.
    product = (0.5 * (log_pi + log_mu) - token).exp()
    assert (product <= 1 + 1e-12).all()
    normaliser = (0.5 * (log_pi + log_mu)).logsumexp(0).exp()
    assert (token.exp() * product).sum().item() == pytest.approx(normaliser.item(), abs=1e-12)
