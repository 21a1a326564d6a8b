"""The methods that fit one policy after another: their losses' gradients against enumeration.

What a loss should be is written down here once more, over whole answers of a listed language.
"""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from nlhf.language.enumeration import enumerate_language, gradient_of, log_probabilities
from nlhf.language.objectives import OBJECTIVES
from nlhf.language.objectives.comal import COMAL
from nlhf.language.objectives.inpo import INPO
from nlhf.language.objectives.stackelberg import follower_prompt
from nlhf.language.rollout import Rollout
from tests.nlhf.language.test_gradients import (
    LENGTH,
    PROMPTS,
    TAU,
    agrees,
    deviation,
    estimates,
    flat,
)
from tests.policies import PromptTables, make_policy, random_tables
from tests.trainers import make_trainer

ANSWERS = 8
"""Of each policy that a prompt's answers are drawn of, where many are wanted."""
ETA = 0.8
ALPHA = 0.3
STANDS = {"anchor_every": 3}
CASES = {
    "sppo": {"eta": ETA, **STANDS},
    "sppo at once": {"eta": ETA, "anchor_every": 1},
    "inpo": {"eta": ETA, **STANDS},
    "inpo at once": {"eta": ETA, "anchor_every": 1},
    "magnetic": {"eta": ETA, **STANDS},
    "mirror-prox": {"eta": ETA, **STANDS},
    "mirror-prox second": {"eta": ETA, **STANDS},
    "onpo": {"eta": ETA, **STANDS},
    "mnpo": {"eta": ETA, "players": 3, **STANDS},
    "dno": {"eta": ETA, **STANDS},
    "xpo": {"alpha": ALPHA, **STANDS},
    "stackelberg": {"opponents": 2, "kl": "full"},
}


def setting(case, copies=250, **more):
    """A trainer whose held policies differ from the policy and from one another."""
    name, _, phase = case.partition(" ")
    policy = make_policy(words=("a", "b", "<end>"), moved=0.15)
    texts = sorted(set(enumerate_language(policy, PROMPTS[0], LENGTH).texts))
    judge = PromptTables(texts, random_tables(PROMPTS, len(texts)))
    trainer = make_trainer(
        policy,
        judge,
        name=name,
        prompts=PROMPTS * copies,
        tau=TAU,
        length=LENGTH,
        **CASES[case],
        **more,
    )
    for i, each in enumerate(trainer.held.values()):
        g = torch.Generator().manual_seed(20 + i)
        for p in each.values():
            p += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    trainer.steps = 3 if phase == "second" else 0
    return trainer


class Whole:
    """Probabilities of whole answers to a prompt; the fixed ones found before any graph."""

    def __init__(self, trainer, prompt):
        self.policy, self.objective = trainer.policy, trainer.objective
        self.language = enumerate_language(trainer.policy, prompt, LENGTH)
        rows = [trainer.judge.rows[text] for text in self.language.texts]
        self.P = trainer.judge.tables[prompt][rows][:, rows]
        self.held = {}
        with torch.no_grad():
            self.mu = log_probabilities(self.policy, self.language, reference=True)
            for name, parameters in trainer.held.items():
                with self.policy.holding(parameters):
                    self.held[name] = log_probabilities(self.policy, self.language)
            now = log_probabilities(self.policy, self.language)
        self.anchor = self.held.get("anchor", now)
        self.second = trainer.steps == 3

    def pi(self):
        return log_probabilities(self.policy, self.language)

    def squares(self, h, q, step):
        gap = h[:, None] - h[None] - step * (self.P - 0.5)
        return (q[:, None] * q[None] * gap.square()).sum() / (4 * step)


def sppo(w):
    q = w.anchor.exp()
    wins = w.P @ q
    return (q * (w.pi() - w.anchor - ETA * (wins - 0.5)).square()).sum() / (2 * ETA)


def inpo(w):
    base = (1 - ETA * TAU) * w.anchor + ETA * TAU * w.mu
    return w.squares(w.pi() - base, w.anchor.exp(), ETA)


def proximal(w):
    q = w.held["ahead"] if w.second else w.anchor
    base = (w.anchor + ETA * TAU * w.mu) / (1 + ETA * TAU)
    return w.squares(w.pi() - base, q.exp(), ETA / (1 + ETA * TAU))


def onpo(w):
    return w.squares(w.pi() - w.held["base"], w.held["played"].exp(), ETA)


def mnpo(w):
    past = torch.stack([w.held["past-0"], w.held["past-1"]])
    return w.squares(w.pi() - past.mean(0), past.exp().mean(0), ETA)


def dno(w):
    # over y, y' and the one answer that both are compared with
    q, h = w.anchor.exp(), (w.pi() - w.anchor) / ETA
    better = (w.P[:, None, :] - w.P[None, :, :]).sigmoid()
    m = (h[:, None] - h[None])[..., None]
    losses = better * logsigmoid(m) + (1 - better) * logsigmoid(-m)
    return -2 * ETA * (q[:, None, None] * q[None, :, None] * q * losses).sum()


def xpo(w):
    log_pi = w.pi()
    h = TAU * (log_pi - w.mu)
    m = h[:, None] - h[None]
    labels = w.P * logsigmoid(m) + (1 - w.P) * logsigmoid(-m)
    bonus = ALPHA * (w.mu.exp() * log_pi).sum()
    return (bonus - (w.anchor.exp()[:, None] * w.mu.exp()[None] * labels).sum()) / TAU


def stackelberg(w):
    log_pi = w.pi()
    leads, total = log_pi.detach().exp(), torch.zeros((), dtype=torch.float64)
    value = []
    for i, text in enumerate(w.language.texts):
        asked = enumerate_language(w.policy, follower_prompt(w.prompt, text), LENGTH)
        log_w = log_probabilities(w.policy, asked)
        with torch.no_grad():
            log_mu = log_probabilities(w.policy, asked, reference=True)
        wins = w.P[:, i]
        total = total + leads[i] * (log_w.exp() * (wins - TAU * (log_w - log_mu))).sum()
        value.append((log_w.detach().exp() * w.P[i]).sum())
    own = (log_pi.exp() * (torch.stack(value) - TAU * (log_pi - w.mu))).sum()
    return -(own + total)


LOSSES = {
    "sppo": sppo,
    "inpo": inpo,
    "comal": inpo,
    "magnetic": proximal,
    "mirror-prox": proximal,
    "onpo": onpo,
    "mnpo": mnpo,
    "dno": dno,
    "xpo": xpo,
    "stackelberg": stackelberg,
}


def true_gradient(trainer):
    worlds = [Whole(trainer, prompt) for prompt in PROMPTS]
    for world, prompt in zip(worlds, PROMPTS, strict=True):
        world.prompt = prompt
    loss = LOSSES[trainer.objective.name]
    return -flat(gradient_of(lambda: sum(map(loss, worlds)) / len(worlds), trainer.policy))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_100_000_samples_is_the_true_gradient(case):
    trainer = setting(case, samples=ANSWERS)
    true = true_gradient(trainer)
    scored = sum(each.count for each in trainer.objective.plan(0).scored)
    scored *= 3 if case == "stackelberg" else 1  # two followers each
    found = estimates(trainer, {}, 100_000 // (len(trainer.prompts) * scored))
    assert agrees(found, true), deviation(found, true)
    assert not agrees(found, 0.8 * true)


@pytest.mark.parametrize("case", ["mnpo", "dno", "mirror-prox second"])
def test_a_few_samples_agree_with_the_true_gradient(case):
    trainer = setting(case)
    found, true = estimates(trainer, {}, 8), true_gradient(trainer)
    assert agrees(found, true), deviation(found, true)
    assert not agrees(found, -true)


def test_every_objective_is_held_against_enumeration():
    here = {"nash-md", "nash-ema", "self-play", "best-response", "extragradient", "rlhf"}
    assert COMAL.loss is INPO.loss  # and its plan
    assert COMAL.plan is INPO.plan
    assert set(OBJECTIVES) == here | {"online-ipo"} | set(LOSSES)


BIASED = {
    # answers of the policy, taken for those of pi_t
    "anchor": ("inpo", {"anchor_every": 1}),
    # the reference left out
    "reference": ("sppo", STANDS),
    # the second opponent left out
    "players": ("mnpo", {"players": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BIASED)
def test_the_biased_forms_fail_the_same_test(kind):
    name, more = BIASED[kind]
    right = setting("mnpo" if kind == "players" else "inpo")
    true = true_gradient(right)
    settings = {"eta": ETA, **STANDS, **more}
    policy, judge = right.policy, right.judge
    wrong = make_trainer(
        policy, judge, name=name, prompts=right.prompts, tau=TAU, length=LENGTH, **settings
    )
    wrong.held = {key: right.held[key] for key in wrong.held}
    found = estimates(wrong, {}, 60)
    assert not agrees(found, true), deviation(found, true)


def test_the_policy_is_untouched_where_others_are_held():
    trainer = setting("mnpo")
    before = {name: p.detach().clone() for name, p in trainer.policy.trainable().items()}
    trainer.loss(trainer.sample(trainer.objective.plan(0)))
    assert all(torch.equal(p, before[name]) for name, p in trainer.policy.trainable().items())
    assert isinstance(trainer.rollout, Rollout)
    assert math.isfinite(trainer.step()["loss"])
