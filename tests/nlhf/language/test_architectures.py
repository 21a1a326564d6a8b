"""Every architecture is sampled and scored as it computes row by row, or refused in one line."""

import copy

import peft
import pytest
import torch

from nlhf.errors import InputError
from nlhf.language.adapter_rows import AdapterRows
from nlhf.language.adapters import Lora
from nlhf.language.loading import load_policy, quiet, tiny_model
from nlhf.language.policy import Policy
from nlhf.language.saving import save_policy
from nlhf.language.scoring import score
from nlhf.language.suitability import check_suitable
from tests.architectures import (
    ARCHITECTURES,
    END,
    PROMPTS,
    REFUSED,
    STATEFUL,
    independent,
    largest_errors,
    make_model,
    next_log_probs,
    policy_of,
    prompts,
)

ANSWERS = torch.tensor([[1, 7, 3], [2, 2, 9], [8, 6, END], [4, 11, 10], [5, 0, 0], [3, 3, 3]])
MASK = torch.tensor([[True] * 3] * 4 + [[True, False, False]] + [[True] * 3])
INDEX = torch.tensor([0, 0, 1, 1, 2, 2])


def largest_kl(name, kind, dtype):
    """Largest KL of a position from the models' own rows, in sampling and in scoring."""
    policy = policy_of(name, kind, dtype)
    check_suitable(policy)
    error, apart = largest_errors(policy, name, dtype)
    assert apart > 0.1  # pi and mu differ, or nothing would be shown
    found = [error]
    pi, mu = independent(policy, name, dtype)
    for share in (False, policy.shares):
        for model, reference in ((pi, False), (mu, True)):
            scores = score(
                policy, prompts(), ANSWERS, MASK, index=INDEX, reference=reference, share=share
            )
            for row, i in enumerate(INDEX.tolist()):
                for t in range(int(MASK[row].sum())):
                    p = next_log_probs(model, PROMPTS[i] + ANSWERS[row, :t].tolist())
                    q = scores.log_all[row, t].detach().double()
                    found.append(float((p.exp() * (p - q)).sum()))
    return float(torch.tensor(found, dtype=torch.float64).max())  # NaN if one is


# softmax and norms in these models are of float32 whatever the weights
@pytest.mark.parametrize("name", ["opt", "qwen3-moe"])
def test_flattened_rows_and_wrapped_experts_are_exact_with_an_adapter(name):
    assert largest_kl(name, "lora", torch.float64) <= 1e-12


@pytest.mark.parametrize("name", ["bloom", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_left_padding_in_float64_is_not_nan(name):
    assert largest_errors(policy_of(name, "full"), name, torch.float64)[0] <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_architectures_are_exact_in_float32(name, kind):
    assert largest_kl(name, kind, torch.float32) <= 1e-6


@pytest.mark.parametrize(
    "name", ["mamba", *(pytest.param(n, marks=pytest.mark.slow) for n in STATEFUL if n != "mamba")]
)
def test_caches_of_states_are_exact(name):
    assert largest_kl(name, "full", torch.float32) <= 1e-6


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bert", "it looks ahead"),
        ("bart", "left padding changes"),
        ("rwkv", "left padding changes"),
        ("minimax", "its cache makes it fail"),
    ],
)
def test_what_would_be_silently_wrong_is_refused_when_it_is_loaded(tmp_path, name, reason):
    assert name in REFUSED
    model = make_model(name, torch.float32)
    model.save_pretrained(tmp_path)
    words = [f"w{i}" for i in range(9)]
    tiny_model([*words, "<end>"])[1].save_pretrained(tmp_path)
    with pytest.raises(InputError, match=reason) as refused:
        load_policy(str(tmp_path))
    assert "\n" not in str(refused.value)
    assert type(model).__name__ in str(refused.value)


def test_a_model_without_a_head_for_tokens_is_refused_in_one_line(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=12, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded") as refused:
        load_policy(str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["llama", "opt", "qwen3-moe"])
def test_one_pass_for_both_policies_is_used_only_where_it_is_right(name):
    policy = policy_of(name, "lora")
    assert policy.joined == (name != "qwen3-moe")
    assert (policy.remark is None) == policy.joined


@pytest.mark.parametrize("name", ["opt", "qwen2-moe"])
def test_gradients_of_an_adapter_are_those_of_separate_passes(name):
    policy = policy_of(name, "lora")
    parameters = list(policy.trainable().values())
    found = score(policy, prompts(), ANSWERS, MASK, index=INDEX, share=True).log_prob
    weights = torch.arange(1.0, 1 + found.numel(), dtype=found.dtype).reshape(found.shape)
    together = torch.autograd.grad((weights * found).sum(), parameters)
    total = [torch.zeros_like(each) for each in parameters]
    for row, i in enumerate(INDEX.tolist()):
        n = int(MASK[row].sum())
        ids = torch.tensor([PROMPTS[i] + ANSWERS[row, :n].tolist()])
        logits = policy.forward({"input_ids": ids, "use_cache": False}).logits[0, -n - 1 : -1]
        log_prob = torch.log_softmax(logits, -1).gather(1, ANSWERS[row, :n, None])[:, 0]
        alone = torch.autograd.grad((weights[row, :n] * log_prob).sum(), parameters)
        total = [a + b for a, b in zip(total, alone, strict=True)]
    for a, b in zip(together, total, strict=True):
        # norms and softmax are of float32 whatever the weights
        assert float((a - b).norm()) <= 1e-6 * float(b.norm())
    assert max(float(each.abs().max()) for each in total) > 0.1


SETTINGS = {"r": 2, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    ("name", "unusual"),
    [
        ("llama", {"modules_to_save": ["lm_head"]}),
        ("opt", {"lora_bias": True}),
        pytest.param("llama", {"use_dora": True}, marks=pytest.mark.slow),
        pytest.param(
            "llama", {"target_modules": ["embed_tokens", "q_proj"]}, marks=pytest.mark.slow
        ),
        pytest.param("llama", {"trainable_token_indices": [1, 2]}, marks=pytest.mark.slow),
    ],
    ids=lambda each: each if isinstance(each, str) else next(iter(each)),
)
def test_adapters_that_are_more_than_two_factors_are_not_joined_and_exact(name, unusual):
    settings = peft.LoraConfig(**(SETTINGS | unusual))
    policy = policy_of(name, "lora", settings=settings)
    assert not policy.joined
    error, apart = largest_errors(policy, name, torch.float64)
    assert error <= 1e-12
    assert apart > 0.01


def test_an_adapter_that_moves_its_base_is_refused():
    settings = peft.LoraConfig(**(SETTINGS | {"bias": "all"}))
    with pytest.raises(InputError, match='bias="none"'):
        policy_of("opt", "lora", settings=settings)


@pytest.mark.parametrize("fails", [False, True])
def test_trying_an_adapter_leaves_its_weights_bit_for_bit(fails, monkeypatch):
    policy = policy_of("opt", "lora", torch.float32)
    rows = AdapterRows(policy.model)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    if fails:
        passes = []

        def forward(**inputs):
            passes.append(inputs)
            if len(passes) == 3:
                raise RuntimeError("in the middle")
            return original(**inputs)

        original = policy.model.forward
        monkeypatch.setattr(policy.model, "forward", forward)
        with pytest.raises(RuntimeError, match="in the middle"):
            rows.agree()
        assert len(passes) == 3
    else:
        assert rows.agree()
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.requires_grad == ("lora_" in name), name


def test_a_model_that_fails_under_its_adapter_is_refused_in_one_line(monkeypatch):
    policy = policy_of("opt", "lora", torch.float32)

    def forward(**inputs):
        raise ValueError("no such\nlayer")

    monkeypatch.setattr(policy.model, "forward", forward)
    with pytest.raises(InputError, match="fails in a plain pass: ValueError: no such layer"):
        AdapterRows(policy.model).agree()


def test_a_setting_that_chooses_layers_is_not_taken_for_their_number(tmp_path):
    model = make_model("qwen2", torch.float32)
    assert model.config.max_window_layers > len(model.state_dict())
    model.save_pretrained(tmp_path)
    tiny_model([*(f"w{i}" for i in range(9)), "<end>"])[1].save_pretrained(tmp_path)
    assert load_policy(str(tmp_path)).vocabulary == 12


def test_a_policy_and_a_reference_of_other_tokens_are_refused():
    small, _ = tiny_model(["a", "b"])
    large, tokenizer = tiny_model(["a", "b", "c"])
    with pytest.raises(InputError, match="knows 3 tokens and its reference 2"):
        Policy(large, small, tokenizer, (), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ARCHITECTURES, "lfm2", "qwen3-next", "jamba"])
def test_saved_and_merged_adapters_are_the_policy(tmp_path, name):
    tokenizer = tiny_model([*(f"w{i}" for i in range(9)), "<end>"])[1]
    with quiet():
        make_model(name, torch.float32).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
    policy = load_policy(str(tmp_path / "base"), lora=Lora(rank=2), seed=1)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.2 * torch.randn_like(parameter)
    expected = next_log_probs(policy.model, PROMPTS[0])
    base = next_log_probs(policy.reference or make_model(name, torch.float32).eval(), PROMPTS[0])
    for merge in (False, True):
        folder = tmp_path / f"merged-{merge}"
        save_policy(copy.copy(policy), folder, {}, merge=merge)
        again = load_policy(str(folder), reference=False)
        found = next_log_probs(again.model, PROMPTS[0])
        assert float((expected.exp() * (expected - found)).sum()) < 1e-6, merge
        assert float((expected.exp() * (expected - base)).sum()) > 1e-3
