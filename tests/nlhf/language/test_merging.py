"""A merged adapter is the model that was trained, or it is not merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraModel

from nlhf.errors import InputError
from nlhf.language.loading import Lora, load_policy, quiet, tiny_model
from nlhf.language.merging import merged
from nlhf.language.policy import Policy
from nlhf.language.saving import save_policy
from tests.architectures import PROMPTS, make_model, next_log_probs


def trained(folder: Path, name: str) -> Policy:
    """A policy of this architecture whose adapter has an effect everywhere."""
    with quiet():
        make_model(name, torch.float32).save_pretrained(folder)
        tiny_model([*(f"w{i}" for i in range(9)), "<end>"])[1].save_pretrained(folder)
    policy = load_policy(str(folder), lora=Lora(rank=3), seed=1)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.4 * torch.randn(parameter.shape, generator=g)
    return policy


def divergence(policy: Any, other: Any) -> float:
    """KL of the next word, the largest over some prompts."""
    found = 0.0
    for prompt in PROMPTS:
        p, q = next_log_probs(policy, prompt), next_log_probs(other, prompt)
        found = max(found, float((p.exp() * (p - q)).sum()))
    return found


@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_on_a_part_that_is_only_read_is_left_out(tmp_path, merge):
    policy = trained(tmp_path / "base", "jamba")
    naive: Any = copy.deepcopy(policy.model)
    naive = naive.merge_and_unload()
    assert divergence(policy.model, naive) > 0.1  # peft merges what had no effect
    save_policy(copy.copy(policy), tmp_path / "saved", {}, merge=merge)
    again = load_policy(str(tmp_path / "saved"), reference=False)
    assert divergence(policy.model, again.model) < 1e-6
    assert again.has_adapter != merge


def test_experts_that_no_token_chose_are_merged(tmp_path):
    policy = trained(tmp_path / "base", "qwen2-moe")
    assert divergence(policy.model, merged(policy.model)) < 1e-6


def test_what_cannot_be_merged_is_kept_as_an_adapter(tmp_path, monkeypatch):
    policy = trained(tmp_path / "base", "gpt2")
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(InputError, match=r"gives another model .* keep the adapter"):
        merged(policy.model)
    with pytest.warns(UserWarning, match=r"saved as an adapter"):
        save_policy(policy, tmp_path / "saved", {}, merge=True)
    again = load_policy(str(tmp_path / "saved"), reference=False)
    assert again.has_adapter
    assert divergence(policy.model, again.model) < 1e-6
