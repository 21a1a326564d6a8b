"""A cyclic language of three answers: Nash-MD finds its equilibrium, RLHF on a reward does not."""

import dataclasses

import pytest
import torch

from bridge.optim import Optimizer
from nlhf.language.enumeration import TableReward, measure_exactly
from nlhf.language.judging import TableJudge
from nlhf.language.loading import load_policy
from nlhf.schedules import schedule
from tests.trainers import make_trainer

ANSWERS = ["rock", "paper", "scissors"]
# paper beats rock most surely of all
P = torch.tensor([[0.5, 0.1, 0.7], [0.9, 0.5, 0.3], [0.3, 0.7, 0.5]], dtype=torch.float64)
TAU, STEPS = 0.1, 300


def end(name):
    """The distance from the oracle's equilibrium after training."""
    policy = load_policy("tiny:rock,paper,scissors", dtype=torch.float64, seed=1)
    trainer = make_trainer(
        policy,
        TableJudge(ANSWERS, P),
        name=name,
        prompts=["rock"],
        tau=TAU,
        length=1,
        batch=16,
        samples=4,
        kl="full",
    )
    trainer.reward = TableReward(ANSWERS, P)
    if name == "nash-md":
        falling = schedule("linear", 0.25, 0.0, STEPS)
        trainer.objective = dataclasses.replace(trainer.objective, mixture=falling)
    trainer.optimizer = Optimizer(
        dict(policy.trainable()),
        method="adam",
        learning_rate=5e-3,
        schedule="cosine",
        total_steps=STEPS,
    )
    for _ in range(STEPS):
        trainer.step()
    ((exploitability, _, distance),) = measure_exactly(trainer, TAU)
    return exploitability, distance


@pytest.mark.slow
def test_nash_md_ends_at_the_equilibrium_and_rlhf_does_not():
    table = {name: end(name) for name in ("nash-md", "rlhf")}
    print(table)
    assert table["nash-md"][1] < 0.02
    assert table["nash-md"][0] < 1e-3
    assert table["rlhf"][1] > 0.1
    assert table["rlhf"][0] > 1e-2
