"""Tiny random models of many architectures, as policies that differ from their references."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import Tensor

from nlhf.language.adapters import Lora, with_adapter
from nlhf.language.decoding import Answers, Sampling, decode, draw_uniforms
from nlhf.language.loading import quiet
from nlhf.language.policy import Encoded, Policy
from tests.policies import move

VOCABULARY, END, LENGTH, WEIGHT, OWN, MIXED = 12, 5, 7, 0.3, 1, 2
# longer than the windows of 4, and padded on the left
PROMPTS = [[1, 2, 3, 4, 6, 7, 8, 9], [2, 7, 1], [3, 4, 3, 3, 9]]

NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
COMMON = NO_SPECIAL | {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
INNER = {"intermediate_size": 32, "max_position_embeddings": 64}
GROUPED = INNER | {"num_key_value_heads": 1}
WINDOW = {"sliding_window": 4, "head_dim": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
GEMMA = GROUPED | WINDOW | {"query_pre_attn_scalar": 8}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
LATENT = {
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}
STATES = {"state_size": 4, "time_step_rank": 4}
# the name of an architecture: transformers' name for it, and its settings
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_positions": 64}),
    "mistral": ("mistral", GROUPED | WINDOW),
    "qwen2": ("qwen2", GROUPED),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", GEMMA | {"layer_types": ["sliding_attention", "full_attention"]}),
    "llama": ("llama", GROUPED),
    "neox": ("gpt_neox", INNER),
    "falcon": ("falcon", {"alibi": False, "max_position_embeddings": 64}),
    "falcon-alibi": ("falcon", {"alibi": True, "multi_query": False}),
    "phi": ("phi", INNER | {"partial_rotary_factor": 0.5}),
    "bloom": ("bloom", {}),
    "opt": ("opt", {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16}),
    "olmo2": ("olmo2", GROUPED),
    "qwen2-moe": (
        "qwen2_moe",
        GROUPED | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    ),
    "qwen3-moe": ("qwen3_moe", GROUPED | EXPERTS | {"num_experts": 4, "head_dim": 8}),
    "mixtral": ("mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek-v3": ("deepseek_v3", INNER | EXPERTS | LATENT),
}
# caches with states, alone or in addition to keys
STATEFUL: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("mamba", STATES),
    "falcon-mamba": ("falcon_mamba", STATES),
    "mamba2": ("mamba2", {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1}),
    "lfm2": ("lfm2", GROUPED | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 32}),
    "qwen3-next": (
        "qwen3_next",
        GROUPED
        | EXPERTS
        | LINEAR
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "head_dim": 8,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
        },
    ),
    "jamba": (
        "jamba",
        GROUPED
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
        },
    ),
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", INNER),
    "bart": (
        "bart",
        {"d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32},
    ),
    "rwkv": ("rwkv", {"attention_hidden_size": 16, "context_length": 64, "intermediate_size": 32}),
    "minimax": (
        "minimax",
        GROUPED
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 2,
            "head_dim": 8,
            "block_size": 4,
        },
    ),
}


def make_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A random model, the same at every call."""
    kind, own = (ARCHITECTURES | STATEFUL | REFUSED)[name]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(3)
        config = transformers.AutoConfig.for_model(kind, **(COMMON | own))
        return transformers.AutoModelForCausalLM.from_config(config).to(dtype)


def policy_of(
    name: str, kind: str, dtype: torch.dtype = torch.float64, settings: Any = None
) -> Policy:
    """A policy with full weights or an adapter (on all linear layers, or by `settings`), moved."""
    model, reference = make_model(name, dtype), None
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(1)
        if kind == "full":
            reference = copy.deepcopy(model)
        elif settings is None:
            model = with_adapter(model, Lora(rank=3)).to(dtype)
        else:
            import peft

            model = peft.get_peft_model(model, settings).to(dtype)
        policy = Policy(model, reference, None, (END,), 0, 64, name)
    move(policy, 0.2)
    return policy


def prompts() -> Encoded:
    """The prompts, padded on the left."""
    longest = max(len(each) for each in PROMPTS)
    ids, mask = (torch.zeros(len(PROMPTS), longest, dtype=t) for t in (torch.long, torch.bool))
    for i, each in enumerate(PROMPTS):
        ids[i, longest - len(each) :] = torch.tensor(each)
        mask[i, longest - len(each) :] = True
    return Encoded(ids, mask)


def sampled(policy: Policy) -> tuple[Answers, Tensor]:
    """Answers, and the decoder's distributions [T, N, V] from which they were drawn."""
    seen: list[Tensor] = []
    rows = len(PROMPTS) * (OWN + MIXED)
    draws = draw_uniforms(rows, LENGTH, torch.Generator().manual_seed(1))
    answers = decode(
        policy,
        prompts(),
        OWN,
        MIXED,
        WEIGHT,
        Sampling(LENGTH),
        draws,
        observe=lambda t, q: seen.append(q),
    )
    return answers, torch.stack(seen)


def prompt_of(row: int) -> tuple[list[int], float]:
    """A row's prompt, and the reference's weight in it."""
    first = OWN * len(PROMPTS)
    if row < first:
        return PROMPTS[row // OWN], 0.0
    return PROMPTS[(row - first) // MIXED], WEIGHT


@torch.no_grad()
def next_log_probs(model: Any, tokens: list[int]) -> Tensor:
    """Log-probabilities of the next token [V]: one row, no cache, no padding, no adapter."""
    ids = torch.tensor([tokens])
    return torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, -1].double(), -1)


def independent(policy: Policy, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Policy and reference as two separate models that share nothing with the policy.

    The reference is created anew; an adapter is merged into another copy of it.
    """
    model: Any = copy.deepcopy(policy.model)
    if policy.has_adapter:
        with quiet():
            model = model.merge_and_unload()
    alone = make_model(name, dtype)
    for each in (model, alone):
        each.set_experts_implementation("eager")  # the default has no float64
    return model.eval(), alone.eval()


def largest_errors(policy: Policy, name: str, dtype: torch.dtype) -> tuple[float, float]:
    """The largest KL(brute force || decoder) over all rows and prefixes, and KL(pi || mu)."""
    answers, seen = sampled(policy)
    pi, mu = independent(policy, name, dtype)
    largest, apart = 0.0, 0.0
    for row in range(len(answers.tokens)):
        prompt, weight = prompt_of(row)
        for t in range(int(answers.mask[row].sum())):
            prefix = prompt + answers.tokens[row, :t].tolist()
            p, m = next_log_probs(pi, prefix), next_log_probs(mu, prefix)
            q = torch.log_softmax((1 - weight) * p + weight * m, -1)
            error = float((q.exp() * (q - seen[t, row].double())).sum())
            largest = max(largest, error if error == error else float("inf"))
            apart = max(apart, float((p.exp() * (p - m)).sum()))
    return largest, apart
