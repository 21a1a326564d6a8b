"""The rows that a run on a language model writes to its log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LanguageRecord:
    """One training step on a language model; names as in TRL's trainers, with "/" written as "_".

    `objective_kl` estimates KL(pi || mu) of whole answers: the mean over the policy's answers of
    the sum of KL(pi || mu) at their prefixes, never negative. `objective_entropy` is the mean of
    -log pi(y). `rewards_probabilities` is the mean P(y > y'), `rewards_accuracies` the share of
    pairs with P(y > y') > 1/2, `rewards_margins` the mean P(y > y') - P(y' > y). `beta` is tau,
    `mixture_coef` the reference's weight in the opponent, `num_tokens` all tokens sampled so far.
    `sampling_logp_difference` is the mean over the policy's tokens of |log pi where they were drawn
    - log pi where they were scored|: rounding, that of another program if one draws, and the effect
    of dropout in an adapter. NaN if the loss takes no answers of the policy.
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
    sampling_logp_difference: float
    num_tokens: int


@dataclass(frozen=True)
class EvaluationRecord:
    """The policy against its reference on held-out prompts.

    `win_rate` is the mean of P(pi > mu) over prompts (or of the reward, if there is only a reward).
    `win_rate_error` is its standard error, `above_half` the share of prompts with P(pi > mu) > 1/2,
    `ended` the share of answers that ended.
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
    """The policy for one prompt against the game of all answers; `prompt` is its number.

    All three distances are to the regularised equilibrium that the oracle found.
    """

    step: int
    prompt: int
    exploitability: float
    kl_to_equilibrium: float
    total_variation: float
