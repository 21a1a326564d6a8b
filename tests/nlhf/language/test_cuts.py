"""Cuts act on the answers of opponents and of mixtures, and never on a policy's scored answers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nlhf.errors import InputError
from nlhf.language.decoding import draw_uniforms
from nlhf.language.evaluation import evaluate
from nlhf.language.objectives import OBJECTIVES
from nlhf.language.objectives.base import MIXTURE, POLICY
from nlhf.language.prompts import Prompt
from tests.policies import make_policy
from tests.trainers import make_trainer

LENGTH = 4
PROMPTS: list[Prompt] = ["a b", "c"]
READERS = [name for name, kind in OBJECTIVES.items() if kind.reads_cuts]


def cut(made, **cuts):
    """A trainer or a rollout with cuts."""
    return dataclasses.replace(made, sampling=dataclasses.replace(made.sampling, **cuts))


def greedy(policy, prompt):
    """The most likely token at each prefix, by plain passes over the whole text."""
    ids, tokens = policy.encode([prompt]).ids, []
    for _ in range(LENGTH):
        with torch.no_grad():
            token = int(policy.model(input_ids=ids).logits[0, -1].argmax())
        tokens.append(token)
        if token in policy.end_ids:
            break
        ids = torch.cat((ids, torch.tensor([[token]])), 1)
    return tokens


def told(answers, row):
    """The tokens of one answer."""
    return answers.tokens[row][answers.mask[row]].tolist()


@pytest.mark.parametrize("name", READERS)
def test_opponents_and_mixtures_are_cut_and_the_policy_s_own_answers_are_not(name):
    policy = make_policy()
    trainer = make_trainer(policy, name=name, length=LENGTH, samples=2)
    plan = trainer.objective.plan(0)
    g = torch.Generator().manual_seed(1)
    held = {
        draw.policy: {
            name: p.detach() + 0.3 * torch.randn(p.shape, generator=g)
            for name, p in policy.trainable().items()
        }
        for draw in (*plan.scored, *plan.opponents)
        if draw.policy not in (POLICY, MIXTURE)
    }
    uniforms = {}

    def draws(count):
        return uniforms.setdefault(
            count, draw_uniforms(len(PROMPTS) * count, LENGTH, torch.Generator().manual_seed(count))
        )

    whole = trainer.rollout.sample(plan, PROMPTS, held, draws)
    found = cut(trainer, top_k=1).rollout.sample(plan, PROMPTS, held, draws)
    n, seen = found.own.tokens.shape[0] // len(PROMPTS), 0
    for draw in plan.scored:
        for b in range(len(PROMPTS)):
            for row in range(b * n + seen, b * n + seen + draw.count):
                if draw.policy == MIXTURE:
                    assert told(found.own, row) == told(found.own, b * n + seen)
                else:
                    assert told(found.own, row) == told(whole.own, row)
        seen += draw.count
    for draw in plan.opponents:
        if draw.policy == POLICY or (draw.policy == MIXTURE and draw.weight == 0):
            expected = [greedy(policy, prompt) for prompt in PROMPTS]
        elif draw.policy == MIXTURE:
            continue  # test_decoding.py compares a mixture's cuts
        else:
            with policy.holding(held[draw.policy]):
                expected = [greedy(policy, prompt) for prompt in PROMPTS]
        for b, tokens in enumerate(expected):
            assert told(found.other, b * draw.count) == tokens


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in READERS])
def test_a_trainer_whose_objective_draws_every_answer_whole_refuses_cuts(name):
    trainer = make_trainer(make_policy(), name=name)
    for cuts in ({"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.5}, {"repetition_penalty": 2.0}):
        with pytest.raises(InputError, match=f"have no effect with {name}"):
            cut(trainer, **cuts)


def test_an_evaluation_compares_whole_policies():
    rollout = make_trainer(make_policy(), length=LENGTH).rollout
    given = (["a", "b c"], 3, 0, 5)
    assert evaluate(cut(rollout, top_k=1), *given) == evaluate(rollout, *given)
