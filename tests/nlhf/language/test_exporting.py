"""The weights of a policy under the names of a checkpoint: against peft and `save_pretrained`."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.exporting import check_exportable, exported
from nlhf.language.loading import load_policy, quiet
from nlhf.language.merging import merged
from tests.architectures import ARCHITECTURES, policy_of
from tests.policies import WORDS, make_policy, move

pytest.importorskip("peft")


@pytest.mark.parametrize("quantise", [None, "4bit", "8bit"])
def test_an_adapter_is_handed_over_as_peft_merges_it(quantise):
    spec = "tiny:" + ",".join(WORDS)
    policy = load_policy(spec, lora=Lora(3), quantise=quantise)
    move(policy, 0.3)
    before = {n: p.clone() for n, p in policy.model.named_parameters()}
    handed = dict(exported(policy))
    assert all(torch.equal(before[n], p) for n, p in policy.model.named_parameters())
    expected = dict(merged(policy.model).named_parameters())
    assert handed.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(handed[name], weight, rtol=1e-5, atol=1e-6)
    # and the reference is the base
    base = dict(exported(policy, reference=True))
    with torch.no_grad():
        policy.load({name: torch.zeros_like(p) for name, p in policy.trainable().items()})
    for name, weight in merged(policy.model).named_parameters():
        torch.testing.assert_close(base[name], weight, rtol=0, atol=0)
    assert any(not torch.equal(base[name], handed[name]) for name in base)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((n, "full") for n in ARCHITECTURES),
        *((n, "lora") for n in ("llama", "gpt2", "qwen2", "opt", "neox", "gemma2", "olmo2")),
    ],
)
def test_names_are_those_of_a_checkpoint(name, kind, tmp_path):
    policy = policy_of(name, kind, torch.float32)
    kept = copy.deepcopy(policy.model.state_dict())
    handed = dict(exported(policy))
    whole = merged(policy.model) if kind == "lora" else policy.model
    with quiet():
        whole.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert handed.keys() == stored.keys()
    for key, weight in stored.items():
        torch.testing.assert_close(handed[key], weight, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(kept[key], value) for key, value in policy.model.state_dict().items())


def test_a_moved_reference_is_handed_over_too():
    policy = make_policy()
    handed = dict(exported(policy, reference=True))
    expected = dict(policy.reference.named_parameters())
    assert handed.keys() == expected.keys()
    assert all(torch.equal(handed[name], weight) for name, weight in expected.items())
    own = load_policy("tiny:a,b,c", lora=Lora(2), own_reference=True)
    move(own, 0.3)
    own.reference.load_state_dict(own.model.state_dict())  # it jumped
    now, jumped = dict(exported(own)), dict(exported(own, reference=True))
    assert all(torch.equal(now[name], jumped[name]) for name in now)


def test_other_adapters_are_refused():
    peft = pytest.importorskip("peft")
    policy = load_policy("tiny:a,b,c", lora=Lora(2))
    check_exportable(policy)
    with quiet():
        base = load_policy("tiny:a,b,c", reference=False).model
        settings = peft.LoraConfig(r=2, use_dora=True, target_modules="all-linear")
        policy.model = peft.get_peft_model(base, settings)
    with pytest.raises(InputError, match=r"no LoRA of a linear layer.*sampler=vllm"):
        check_exportable(policy)
