"""The rows that a run on a language model logs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LanguageRecord:
    """One step on a language model; names as in TRL's trainers, "/" written as "_".

    `objective_kl` estimates KL(pi || mu) of whole answers: the mean over the policy's answers of
    the sum of KL(pi || mu) at their prefixes, never negative; `objective_entropy` is the mean of
    -log pi(y); `rewards_probabilities` the mean P(y > y'), `rewards_accuracies` how often it
    exceeds a half, `rewards_margins` the mean P(y > y') - P(y' > y); `beta` is tau,
    `mixture_coef` the reference's weight in the opponent, `num_tokens` all tokens sampled so far.
    """

    step: int
    loss: float
    loss_score: float
    loss_kl: float
    objective_kl: float
    objective_entropy: float
    rewards_probabilities: float
    rewards_accuracies: float
    rewards_margins: float
    reward: float
    completions_mean_length: float
    val_model_contain_eos_token: float
    val_ref_contain_eos_token: float
    beta: float
    mixture_coef: float
    grad_norm: float
    learning_rate: float
    num_tokens: int


@dataclass(frozen=True)
class EvaluationRecord:
    """The policy against its reference on held-out prompts.

    `win_rate` is the mean of P(pi > mu) over prompts (of the reward, where a reward is all that
    there is), `win_rate_error` its standard error, `above_half` the share of prompts on which it
    exceeds a half; `ended` is how many answers came to their end.
    """

    step: int
    prompts: int
    win_rate: float
    win_rate_error: float
    above_half: float
    objective_kl: float
    objective_entropy: float
    completions_mean_length: float
    ended: float


@dataclass(frozen=True)
class ExactRecord:
    """The policy of one prompt against the game of all answers; `prompt` is its number.

    The three distances are to the regularised equilibrium that the oracle found.
    """

    step: int
    prompt: int
    exploitability: float
    kl_to_equilibrium: float
    total_variation: float
