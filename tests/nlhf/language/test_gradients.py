"""Every objective's estimate, averaged over samples, is the true gradient of a listed language."""

import dataclasses
import math

import pytest
import torch

from nlhf.language.enumeration import (
    enumerate_language,
    gradient_of,
    log_probabilities,
    mixture_log_probabilities,
    true_objective,
)
from nlhf.language.objectives import constant, policy_gradient
from nlhf.language.objectives.base import MIXTURE
from tests.policies import PromptTables, make_policy, random_tables
from tests.trainers import make_trainer

PROMPTS = ["a b", "b"]
LENGTH = 2
TAU = 0.5
WEIGHT = 0.3
COPIES = 250


def setting(name, temperature=1.0, **more):
    """A trainer whose pass has every prompt `COPIES` times, and another opponent if it has one."""
    policy = make_policy(words=("a", "b", "<end>"), moved=0.15)
    texts = enumerate_language(policy, PROMPTS[0], LENGTH).texts
    texts = sorted(set(texts))
    judge = PromptTables(texts, random_tables(PROMPTS, len(texts)))
    trainer = make_trainer(
        policy,
        judge,
        name=name,
        prompts=PROMPTS * COPIES,
        tau=TAU,
        mixture=WEIGHT,
        length=LENGTH,
        temperature=temperature,
        **more,
    )
    opponent = {}
    if name in ("nash-ema", "extragradient"):
        g = torch.Generator().manual_seed(4)
        opponent["average" if name == "nash-ema" else "ahead"] = {
            key: p.detach() + 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype)
            for key, p in policy.trainable().items()
        }
    return trainer, opponent


def true_gradient(trainer, opponent):
    """By a sum over all answers to each prompt, the opponent held fixed."""
    policy, judge, objective = trainer.policy, trainer.judge, trainer.objective
    T = trainer.sampling.temperature
    held = {}  # before any graph: to hold other weights is to write over the policy's
    for parameters in opponent.values():
        with policy.holding(parameters), torch.no_grad():
            for prompt in PROMPTS:
                language = enumerate_language(policy, prompt, LENGTH)
                held[prompt] = log_probabilities(policy, language, temperature=T).exp()

    def value():
        total = torch.zeros((), dtype=torch.float64)
        for prompt in PROMPTS:
            language = enumerate_language(policy, prompt, LENGTH)
            rows = [judge.rows[text] for text in language.texts]
            P = judge.tables[prompt][rows][:, rows]
            log_pi = log_probabilities(policy, language, temperature=T)
            log_mu = log_probabilities(policy, language, reference=True, temperature=T)
            plan = objective.plan(0)
            drawn = [*plan.opponents, *plan.scored]
            weight = next((each.weight for each in drawn if each.policy == MIXTURE), 0.0)
            q = mixture_log_probabilities(policy, language, weight, T).exp()
            q = held.get(prompt, q)
            if objective.name == "online-ipo":
                h = log_pi - log_mu
                gap = h[:, None] - h[None] - (P - 0.5) / TAU
                total = total - TAU / 4 * (q[:, None] * q[None] * gap.square()).sum()
            elif objective.name == "rlhf":
                rewards = judge.tables[prompt].mean(1)
                total = total + true_objective(log_pi, log_mu, rewards[rows], TAU)
            else:
                total = total + true_objective(log_pi, log_mu, P @ q, TAU)
        return total / len(PROMPTS)

    return flat(gradient_of(value, policy))


def flat(named):
    return torch.cat([tensor.detach().flatten() for tensor in named.values()])


def estimates(trainer, opponent, passes):
    """One estimate of the gradient per pass of 1,000 answers, [passes, parameters]."""
    found = []
    for _ in range(passes):
        batch = trainer.sample(trainer.objective.plan(trainer.steps), opponent)
        loss, _ = trainer.loss(batch, opponent)
        found.append(-flat(gradient_of(lambda loss=loss: loss, trainer.policy)))
    return torch.stack(found)


def deviation(estimated, true):
    """The error in standard errors: of the whole vector, and along the true gradient."""
    n = len(estimated)
    error = estimated.mean(0) - true
    whole = error.norm() / (estimated.var(0) / n).sum().sqrt()
    along = estimated @ true / true.norm()
    z = (along.mean() - true.norm()) / (along.std() / math.sqrt(n))
    return float(whole), float(z)


def agrees(estimated, true):
    whole, z = deviation(estimated, true)
    return whole < 3 and abs(z) < 3


CASES = [
    ("nash-md", {}),
    ("nash-md", {"kl": "full"}),
    ("nash-md", {"baseline": "half", "temperature": 0.7}),
    ("nash-md", {"baseline": "learned"}),
    ("nash-ema", {}),
    ("self-play", {}),
    ("best-response", {"kl": "full", "baseline": "half"}),
    ("extragradient", {}),
    ("rlhf", {}),
    ("rlhf", {"kl": "full", "baseline": "learned"}),
    ("online-ipo", {}),
    ("online-ipo", {"temperature": 0.7}),
]
NAMES = ["-".join([name, *map(str, more.values())]) for name, more in CASES]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), CASES, ids=NAMES)
def test_the_mean_over_100_000_samples_is_the_true_gradient(name, more):
    trainer, opponent = setting(name, **more)
    true = true_gradient(trainer, opponent)
    found = estimates(trainer, opponent, 100)
    assert agrees(found, true), deviation(found, true)
    # the error of n passes falls as 1/sqrt(n)
    sizes = torch.tensor([1, 2, 5, 10, 20])
    errors = torch.stack(
        [
            (found.reshape(-1, int(n), len(true)).mean(1) - true).square().sum(1).mean().sqrt()
            for n in sizes
        ]
    )
    x, y = sizes.double().log(), errors.log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    assert abs(slope + 0.5) < 0.2


def test_a_few_samples_agree_with_the_true_gradient():
    trainer, opponent = setting("nash-md")
    found = estimates(trainer, opponent, 6)
    true = true_gradient(trainer, opponent)
    assert agrees(found, true), deviation(found, true)
    assert not agrees(found, -true)


def test_the_biased_form_fails_the_same_test(monkeypatch):
    true = true_gradient(*setting("nash-md"))
    with monkeypatch.context() as patch:  # a token's own log-ratio only
        patch.setattr(policy_gradient, "_to_go", lambda cost: cost)
        found = estimates(*setting("nash-md"), 10)
    assert not agrees(found, true), deviation(found, true)


@pytest.mark.slow
def test_a_mixture_that_is_self_play_fails_the_same_test():
    true = true_gradient(*setting("nash-md"))
    trainer, _ = setting("self-play")  # a mixture that is self-play
    assert not agrees(estimates(trainer, {}, 100), true)


def test_with_answers_of_the_policy_ipo_s_gradient_is_self_play_s():
    trainer, _ = setting("online-ipo")
    trainer.objective = dataclasses.replace(trainer.objective, mixture=constant(0.0))
    expected = true_gradient(setting("self-play")[0], {})
    # the model's norms are computed in float32
    assert torch.allclose(true_gradient(trainer, {}), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kl", ["reward-to-go", "full"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_kl_in_the_log_has_the_true_mean(kl, temperature):
    trainer, _ = setting("nash-md", temperature, kl=kl)
    batch = trainer.sample(trainer.objective.plan(0))
    found = trainer.rollout.score(batch, {}).kl
    true = 0.0
    for prompt in PROMPTS:
        language = enumerate_language(trainer.policy, prompt, LENGTH)
        with torch.no_grad():
            log_pi, log_mu = (
                log_probabilities(trainer.policy, language, r, temperature) for r in (False, True)
            )
        true += float((log_pi.exp() * (log_pi - log_mu)).sum()) / len(PROMPTS)
    assert float(found.min()) >= 0
    assert abs(float(found.mean()) - true) < 3 * float(found.std()) / found.numel() ** 0.5
    assert true > 0.01


def test_the_kl_in_the_log_is_never_negative():
    policy = make_policy(dtype=torch.float32, moved=0.003)
    trainer = make_trainer(policy, learning_rate=1e-4, length=3)
    seen = [trainer.step() for _ in range(12)]
    for name in ("objective_kl", "loss_kl"):
        assert min(each[name] for each in seen) >= 0
    assert max(each["objective_kl"] for each in seen) > 0
