"""Languages small enough to list: the exact game of all answers, its equilibrium, true gradients.

With V tokens and answers of at most L of them there are at most V^L answers. Everything that
training estimates by sampling can then be computed as a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judging import AbstractJudge
from nlhf.language.policy import Encoded, Policy
from nlhf.language.prompts import Prompt
from nlhf.language.scoring import score
from nlhf.language.trainer import Trainer
from nlhf.mixture import mixed
from nlhf.oracle import solve_equilibrium
from nlhf.preferences.bradley_terry import fit_bradley_terry
from nlhf.regularised_game import exploitability, kl

MOST_ANSWERS = 4096


@dataclass(frozen=True)
class Language:
    """All answers to a prompt.

    Attributes:
        prompt: its tokens, one row.
        tokens: [S, L], padded after the end of text.
        mask: which tokens belong to the answer, [S, L].
        texts: the S answers as text.
    """

    prompt: Encoded
    tokens: Tensor
    mask: Tensor
    texts: list[str]

    @property
    def rows(self) -> Tensor:
        """The number of the prompt of each answer: 0 throughout, as there is only one."""
        return torch.zeros(len(self.tokens), dtype=torch.long, device=self.tokens.device)


@dataclass(frozen=True)
class ExactGame:
    """The preference game of all answers to one prompt.

    Attributes:
        P: P(i > j) between answers, [S, S], float64.
        log_mu: log-probabilities of the answers under the reference, [S], float64.
        log_star: log-probabilities under the regularised equilibrium, [S], float64.
    """

    P: Tensor
    log_mu: Tensor
    tau: float
    log_star: Tensor

    def exploitability(self, log_pi: Tensor) -> float:
        """f(pi) = max_pi' P_tau(pi' > pi) - 1/2; see `nlhf.regularised_game`."""
        return float(exploitability(self.P, log_pi, self.log_mu, self.tau))

    def total_variation(self, log_pi: Tensor) -> float:
        """Total variation distance between pi and pi*: half the sum of |pi - pi*|."""
        return float(0.5 * (log_pi.exp() - self.log_star.exp()).abs().sum())

    def kl_to_equilibrium(self, log_pi: Tensor) -> float:
        """KL(pi || pi*)."""
        return float(kl(log_pi, self.log_star))


def enumerate_language(policy: Policy, prompt: Prompt, length: int) -> Language:
    """List every answer of at most `length` tokens.

    Raises:
        InputError: there are more than MOST_ANSWERS.
    """
    vocabulary = policy.config.vocab_size
    most = vocabulary**length
    if most > MOST_ANSWERS:
        raise InputError(
            f"{vocabulary} tokens and answers of up to {length} make {most} answers; at most "
            f"{MOST_ANSWERS} can be listed, shorten max_new_tokens"
        )
    tokens = torch.cartesian_prod(*[torch.arange(vocabulary)] * length).reshape(most, length)
    ends = torch.isin(tokens, torch.tensor(policy.end_ids, dtype=torch.long))
    after = (ends.long().cumsum(1) - ends.long()) > 0
    tokens = torch.where(after, policy.pad_id, tokens)
    key = torch.where(after, -1, tokens)
    _, first = torch.unique(key, dim=0, return_inverse=True)
    chosen = torch.full((int(first.max()) + 1,), most).scatter_reduce(
        0, first, torch.arange(most), "amin"
    )
    tokens, mask = tokens[chosen].to(policy.device), ~after[chosen].to(policy.device)
    return Language(policy.encode([prompt]), tokens, mask, policy.texts(tokens, mask))


def log_probabilities(
    policy: Policy, language: Language, reference: bool = False, temperature: float = 1.0
) -> Tensor:
    """log pi(y) or log mu(y) of every answer, [S]; pi's with a gradient if grad is enabled."""
    given = (policy, language.prompt, language.tokens, language.mask)
    found = score(*given, index=language.rows, reference=reference, temperature=temperature)
    return found.log_prob.sum(-1)


@torch.no_grad()
def mixture_log_probabilities(
    policy: Policy, language: Language, weight: float, temperature: float = 1.0
) -> Tensor:
    """The token-level mixture over answers: pi^(1-w) mu^w normalised at each prefix, [S].

    It is not the sequence-level mixture, which is normalised once, over whole answers.
    """
    given = (policy, language.prompt, language.tokens, language.mask)
    settings: dict[str, Any] = {"index": language.rows, "temperature": temperature}
    pi = score(*given, **settings).log_all
    mu = score(*given, **settings, reference=True).log_all
    w = torch.tensor(weight, dtype=pi.dtype, device=pi.device)
    taken = mixed(pi, mu, w).gather(-1, language.tokens[..., None])[..., 0]
    return torch.where(language.mask, taken, 0.0).sum(-1)


def sequence_mixture(log_pi: Tensor, log_mu: Tensor, weight: float) -> Tensor:
    """The sequence-level mixture over answers: pi^(1-w) mu^w, normalised once, [S].

    Source: Munos et al. 2023 (arXiv 2312.00886), section 6. Section 7 has the token-level mixture,
    which can be sampled.
    """
    return torch.log_softmax((1 - weight) * log_pi + weight * log_mu, -1)


def preference_table(judge: AbstractJudge, prompt: Prompt, texts: Sequence[str]) -> Tensor:
    """P(i > j) for all pairs of answers, [S, S], float64; 1/2 for identical texts."""
    s = len(texts)
    first, second = torch.triu_indices(s, s, 1).unbind()
    a, b = ([texts[int(i)] for i in rows] for rows in (first, second))
    p = judge([prompt] * len(a), a, b).double()
    table = torch.full((s, s), 0.5, dtype=torch.float64)
    table[first, second] = p
    table[second, first] = 1 - p
    return table


@torch.no_grad()
def exact_game(
    policy: Policy,
    language: Language,
    judge: AbstractJudge,
    prompt: Prompt,
    tau: float,
    temperature: float = 1.0,
) -> ExactGame:
    """The game of all answers and the oracle's equilibrium."""
    P = preference_table(judge, prompt, language.texts)
    log_mu = log_probabilities(policy, language, reference=True, temperature=temperature)
    log_mu = torch.log_softmax(log_mu.double().cpu(), -1)
    return ExactGame(P, log_mu, tau, solve_equilibrium(P, log_mu, tau))


class TableReward:
    """The Bradley-Terry rewards that best fit a preference table: RLHF on a toy language."""

    def __init__(self, answers: Sequence[str], P: Tensor) -> None:
        """Fit the rewards of the answers to P [K, K]."""
        self.rewards = dict(zip(answers, fit_bradley_terry(P).tolist(), strict=True))

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        """r(y), [B]."""
        return torch.tensor([self.rewards[answer] for answer in answers], dtype=torch.float64)


def true_objective(log_pi: Tensor, log_mu: Tensor, payoff: Tensor, tau: float) -> Tensor:
    """sum_y pi(y) payoff(y) - tau KL(pi, mu), over all answers.

    The policy gradients estimate its gradient, which autograd gives exactly. payoff is P(y > pi')
    for a fixed opponent pi', or a reward.
    """
    pi = log_pi.exp()
    return (pi * (payoff - tau * (log_pi - log_mu))).sum()


def gradient_of(function: Callable[[], Tensor], policy: Policy) -> dict[str, Tensor]:
    """The gradient of a scalar with respect to the policy's trainable parameters, by name."""
    trainable = policy.trainable()
    grads = torch.autograd.grad(function(), list(trainable.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if grad is None else grad
        for (name, parameter), grad in zip(trainable.items(), grads, strict=True)
    }


@torch.no_grad()
def measure_exactly(trainer: Trainer, tau: float) -> list[tuple[float, float, float]]:
    """Exploitability, KL and total variation to the equilibrium, for every prompt."""
    measured = []
    for prompt in trainer.prompts:
        assert trainer.judge is not None
        policy, sampling = trainer.policy, trainer.sampling
        language = enumerate_language(policy, prompt, sampling.max_new_tokens)
        game = exact_game(policy, language, trainer.judge, prompt, tau, sampling.temperature)
        log_pi = log_probabilities(policy, language, temperature=sampling.temperature)
        log_pi = torch.log_softmax(log_pi.double().cpu(), -1)
        measured.append(
            (
                game.exploitability(log_pi),
                game.kl_to_equilibrium(log_pi),
                game.total_variation(log_pi),
            )
        )
    return measured
