"""A merged adapter is the model that was trained, or it is not merged."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraModel
from torch import nn

from bridge.runlog import read_run
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.loading import load_policy, quiet, tiny_model
from nlhf.language.merging import merged
from nlhf.language.policy import Policy
from nlhf.language.saving import save_policy
from tests.architectures import PROMPTS, make_model, next_log_probs
from tests.command_line import call


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


class Parts(nn.Module):
    """A model that calls a part, reads the weight of another and leaves a third alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 4)
        self.called, self.read, self.spare = (nn.Linear(4, 4, bias=False) for _ in range(3))

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        x = self.called(self.embedding(input_ids))
        return SimpleNamespace(logits=x @ self.read.weight.T)


def test_only_what_had_an_effect_or_may_have_one_is_merged():
    torch.manual_seed(0)
    base = Parts()
    config = LoraConfig(target_modules=["called", "read", "spare"], init_lora_weights=False)
    whole = merged(get_peft_model(copy.deepcopy(base), config))
    assert torch.equal(whole.read.weight, base.read.weight)
    for name in ("called", "spare"):  # a spare part, such as an expert, may be called by other rows
        assert not torch.allclose(getattr(whole, name).weight, getattr(base, name).weight)


def test_what_cannot_be_merged_is_kept_as_an_adapter(tmp_path, monkeypatch):
    policy = trained(tmp_path / "base", "gpt2")
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(InputError, match=r"gives another model .* keep the adapter"):
        merged(policy.model)
    with pytest.warns(UserWarning, match="saved as an adapter"):
        save_policy(policy, tmp_path / "saved", {}, merge=True)
    again = load_policy(str(tmp_path / "saved"), reference=False)
    assert again.has_adapter
    assert divergence(policy.model, again.model) < 1e-6


def test_a_warm_start_says_what_it_could_not_merge_and_keeps_it(tmp_path, monkeypatch):
    trained(tmp_path / "base", "gpt2")
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    (tmp_path / "e.jsonl").write_text('{"prompt": "w0 w1", "completion": "w2"}\n' * 4)
    args = ["--model", tmp_path / "base", "--examples", tmp_path / "e.jsonl", "--epochs", 1]
    args += [
        "--set",
        "lora.rank=2",
        "--set",
        "optimizer.learning_rate=1.0",
        "--set",
        "holdout=0",
        "--quiet",
    ]
    out = tmp_path / "run.h5"
    done = call("warm-start", *args, "--save", tmp_path / "saved", "--out", out)
    assert done.exit_code == 0, done.output
    (said,) = [line for line in done.stderr.splitlines() if "saved as an adapter" in line]
    assert said.startswith("warning: merging the adapter into ")
    assert load_policy(str(tmp_path / "saved"), reference=False).has_adapter
    texts = [event["text"] for event in read_run(out).events if event["kind"] == "remark"]
    assert texts == [said.removeprefix("warning: ")]
