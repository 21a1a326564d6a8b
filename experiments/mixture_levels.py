"""How far the mixture that can be sampled is from the mixture of the theory.

    python -m experiments.mixture_levels [--seeds N]

Nash-MD's opponent is the mixture pi^(1-w) mu^w over whole answers. A language model samples it
token by token, normalised at each prefix. In languages that can be enumerated both are known. Here
the reference is a random tiny model, and the policy is the same model with random changes. Answers
have 1 to 4 of four tokens, with a random preference between all answers.
"""

from __future__ import annotations

import click
import torch

from experiments.jobs import markdown
from nlhf.language.enumeration import (
    enumerate_language,
    log_probabilities,
    mixture_log_probabilities,
    sequence_mixture,
)
from nlhf.language.loading import load_policy

WEIGHTS = (0.125, 0.5)
LENGTHS = (1, 2, 3, 4)
MOVED = 0.3
"""Standard deviation of the noise added to every weight of the policy."""


@click.command(help=__doc__)
@click.option("--seeds", type=int, default=10)
def main(seeds: int) -> None:
    header = ["tokens", "weight", "total variation", "KL, nats", "largest change of P(y > mixture)"]
    rows = []
    for length in LENGTHS:
        for weight in WEIGHTS:
            measured = torch.tensor([_distances(length, weight, seed) for seed in range(seeds)])
            cells = [f"{mean:.4f}" for mean in measured.mean(0).tolist()]
            rows.append([str(length), str(weight), *cells])
    click.echo(markdown(header, rows))


@torch.no_grad()
def _distances(length: int, weight: float, seed: int) -> tuple[float, float, float]:
    policy = load_policy("tiny:a,b,c", dtype=torch.float64, seed=seed)
    g = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable().values():
        parameter += MOVED * torch.randn(parameter.shape, generator=g, dtype=parameter.dtype)
    language = enumerate_language(policy, "a", length)
    log_pi = log_probabilities(policy, language)
    log_mu = log_probabilities(policy, language, reference=True)
    token = mixture_log_probabilities(policy, language, weight)
    sequence = sequence_mixture(log_pi, log_mu, weight)
    skew = torch.rand(len(token), len(token), generator=g, dtype=torch.float64).triu(1)
    P = 0.5 + (skew - skew.mT) / 2
    change = (P @ (token.exp() - sequence.exp())).abs().max()
    variation = 0.5 * (token.exp() - sequence.exp()).abs().sum()
    divergence = (token.exp() * (token - sequence)).sum()
    return float(variation), float(divergence), float(change)


if __name__ == "__main__":
    main()
