"""Policies: the reference stays what it was, text becomes tokens, and folders are read back."""

import json
import logging

import pytest
import torch
import transformers
from peft import PeftModel

from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.loading import load_policy, quiet
from nlhf.language.saving import save_policy
from tests.policies import PROMPTS, WORDS, make_policy
from tests.trainers import make_trainer

TINY = "tiny:" + ",".join(WORDS)
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}e"


@torch.no_grad()
def logits(model, encoded):
    return model(input_ids=encoded.ids, attention_mask=encoded.mask).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_a_step_the_lora_reference_is_bitwise_the_untouched_base(dtype):
    base = load_policy(TINY, dtype=dtype, seed=5).model
    policy = load_policy(TINY, lora=Lora(rank=2), dtype=dtype, seed=5)
    trainer = make_trainer(policy, learning_rate=0.1, length=3)
    encoded = policy.encode(PROMPTS)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
    with torch.no_grad():
        assert torch.equal(policy.forward(inputs).logits, logits(base, encoded))
    trainer.step()
    with torch.no_grad():
        pi = policy.forward(inputs).logits
    mu = policy.forward(inputs, reference=True).logits
    assert torch.equal(mu, logits(base, encoded))
    assert float((pi - mu).abs().max()) > 0.01
    # the rows of one pass that reads the base weights once
    with torch.no_grad():
        both = policy.forward_rows(inputs, 2).logits
    assert torch.allclose(both[:2], pi[:2], rtol=0, atol=1e-5)
    assert torch.allclose(both[2:], mu[2:], rtol=0, atol=1e-5)
    assert torch.equal(policy.forward(inputs, reference=True).logits, mu)


def test_after_a_step_the_full_reference_is_bitwise_what_was_loaded():
    base = load_policy(TINY, seed=5).model
    policy = load_policy(TINY, seed=5)
    make_trainer(policy, learning_rate=0.1, length=3).step()
    encoded = policy.encode(PROMPTS)
    assert torch.equal(logits(policy.reference, encoded), logits(base, encoded))
    assert not torch.equal(logits(policy.model, encoded), logits(base, encoded))


def test_prompts_are_padded_on_the_left():
    encoded = make_policy().encode(["a b c", "d"])
    assert encoded.ids.tolist()[0] == [0, 1, 2]
    assert encoded.ids[1, -1] == 3
    assert encoded.mask.tolist() == [[True] * 3, [False, False, True]]


def test_a_chat_template_is_used_where_there_is_one():
    policy = make_policy()
    messages = [{"role": "system", "content": "c"}, {"role": "user", "content": "a b"}]
    # without one the texts are put together
    assert policy.encode([messages]).ids.tolist() == [[2, 0, 1]]
    policy.tokenizer.chat_template = TEMPLATE
    assert policy.encode([messages]).ids.tolist() == [[2, 0, 1, 4]]
    assert policy.encode(["a b"]).ids.tolist() == [[0, 1, 4]]
    policy.chat = False
    assert policy.encode(["a b"]).ids.tolist() == [[0, 1]]


def test_no_prompts_and_an_empty_prompt_are_refused():
    policy = make_policy()
    with pytest.raises(InputError, match="no prompts"):
        policy.encode([])
    with pytest.raises(InputError, match="has no tokens"):
        policy.encode([" "])


def test_a_prompt_longer_than_the_context_is_named():
    policy = make_policy()
    policy.context = 12
    policy.check_room(["a b"], 10, "p.jsonl")
    with pytest.raises(InputError, match=r"p\.jsonl: prompt 2 has 3 tokens .* context of 12"):
        policy.check_room(["a b", "a b c"], 10, "p.jsonl")


def test_answers_are_texts_without_their_end():
    policy = make_policy()
    tokens = torch.tensor([[0, 1, 5, 5], [2, 3, 4, 0]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    assert policy.texts(tokens, mask) == ["a b", "c d e a"]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_what_was_saved_is_read_by_transformers_and_again_as_a_policy(tmp_path, kind):
    policy = make_policy(kind, dtype=torch.float32)
    save_policy(policy, tmp_path / "out", {"algorithm": "nash-md", "tau": 0.1})
    encoded = policy.encode(PROMPTS)
    expected = logits(policy.model, encoded)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(logits(read, encoded), expected, atol=1e-5)
    again = load_policy(str(tmp_path / "out"))
    assert torch.allclose(logits(again.model, encoded), expected, atol=1e-5)
    assert torch.equal(again.encode(PROMPTS).ids, encoded.ids)
    assert again.end_ids == policy.end_ids
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "| tau | `0.1` |" in card


def test_an_adapter_is_saved_alone_and_goes_on_learning_on_its_base(tmp_path):
    base = make_policy(dtype=torch.float32, moved=0.0)
    save_policy(base, tmp_path / "base", {})
    policy = load_policy(str(tmp_path / "base"), lora=Lora(rank=2), seed=1)
    make_trainer(policy, learning_rate=0.1, length=2).step()
    save_policy(policy, tmp_path / "adapter", {})
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in written
    assert "model.safetensors" not in written
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")
    encoded = policy.encode(PROMPTS)
    again = load_policy(str(tmp_path / "adapter"))
    assert torch.allclose(logits(again.model, encoded), logits(policy.model, encoded), atol=1e-6)
    assert again.trainable().keys() == policy.trainable().keys()
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
    assert torch.equal(again.forward(inputs, reference=True).logits, logits(base.model, encoded))
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with quiet():
        merged = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    assert torch.allclose(logits(merged, encoded), logits(policy.model, encoded), atol=1e-6)


def test_an_adapter_finds_its_base_from_another_directory(tmp_path, monkeypatch):
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    other.mkdir()
    monkeypatch.chdir(work)
    save_policy(make_policy(dtype=torch.float32, moved=0.0), work / "base", {})
    policy = load_policy("base", lora=Lora(rank=2))
    save_policy(policy, work / "adapter", {})
    again = load_policy("adapter")  # saved anew, it still knows the first base
    save_policy(again, work / "second", {})
    monkeypatch.chdir(other)
    for name in ("adapter", "second"):
        settings = json.loads((work / name / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(work / "base")
        load_policy(str(work / name))


@pytest.mark.parametrize("name", ["someone/model", "smollm2"])
def test_a_base_with_a_name_keeps_it(tmp_path, monkeypatch, name):
    save_policy(make_policy(dtype=torch.float32, moved=0.0), tmp_path / "base", {})
    policy = load_policy(str(tmp_path / "base"), lora=Lora(rank=2))
    policy.model.peft_config["default"].base_model_name_or_path = name
    (tmp_path / "smollm2").mkdir()  # the name is the package's all the same
    monkeypatch.chdir(tmp_path)
    save_policy(policy, tmp_path / "adapter", {})
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == name


def test_bfloat16_weights_learn(tmp_path):
    policy = load_policy(TINY, dtype=torch.bfloat16, seed=2)
    before = {name: p.detach().clone() for name, p in policy.trainable().items()}
    measures = make_trainer(policy, learning_rate=0.1, length=3).step()
    assert measures["loss"] == measures["loss"]
    assert any(not torch.equal(before[name], p) for name, p in policy.trainable().items())


def test_a_missing_end_token_is_refused_with_the_fix(tmp_path):
    policy = load_policy("tiny:a,b,c")  # a tiny language may have answers of one length only
    assert policy.end_ids == ()
    save_policy(policy, tmp_path / "m", {})
    with pytest.raises(InputError, match=r"no end-of-text token.*end_token"):
        load_policy(str(tmp_path / "m"))
    assert load_policy(str(tmp_path / "m"), end_token="c").end_ids == (2,)
    with pytest.raises(InputError, match=r"end_token='x' is no token"):
        load_policy(str(tmp_path / "m"), end_token="x")


@pytest.mark.parametrize(
    ("spec", "lora", "message"),
    [
        ("tiny:a", None, "two or more different words"),
        ("tiny:a,a", None, "two or more different words"),
        ("tiny:a,b", Lora(0), "LoRA rank 0"),
        ("tiny:a,b", Lora(2, targets=("nope",)), "q_proj"),
    ],
)
def test_what_cannot_be_made_is_refused(spec, lora, message):
    with pytest.raises(InputError, match=message):
        load_policy(spec, lora=lora)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_policy(str(tmp_path))


def test_attempts_to_reach_the_hub_are_not_told_one_by_one(caplog):
    told = logging.getLogger("huggingface_hub.utils._http")
    with quiet():
        told.warning("retrying")
    assert not caplog.records
    told.warning("as before")
    assert [record.message for record in caplog.records] == ["as before"]
