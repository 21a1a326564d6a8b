"""Train with your own judge: python examples/own_model_and_judge.py MODEL PROMPTS.jsonl STEPS."""

import sys

from nlhf.config import LanguageConfig
from nlhf.training import build_language, train_language


def franker(prompts, a, b):  # P(a > b | prompt), one number per pair; "no" is preferred
    return [0.5 + 0.4 * ("no" in x) - 0.4 * ("no" in y) for x, y in zip(a, b, strict=True)]


given = {"model": sys.argv[1], "prompts": sys.argv[2], "iterations": int(sys.argv[3])}
given |= {"preference": "franker", "samples": 8, "optimizer": {"learning_rate": 0.02}}
given |= {"mixture": 1.0, "generation": {"max_new_tokens": 4}}  # against the original model
run = build_language(LanguageConfig(**given), preference=franker)
train_language(run, on_record=lambda row: print(row.step, "P(wins):", row.rewards_probabilities))
run.policy.model.save_pretrained("franker")
