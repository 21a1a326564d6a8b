"""vLLM itself on a CPU: its scheduler, models and sampler, with plain torch for its CPU kernels.

    python -m tests.vllm_on_a_cpu

It needs the Python files of vLLM (0.33 was tried) and what they import, but no GPU and none of
vLLM's compiled code. Six operations of that code are written here. For each architecture it prints
whether vLLM computes the policy from the weights that it is handed, then the largest
`sampling_logp_difference` of three steps of each method, and the largest z of the answers'
frequencies against those of the program's own decoder.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

os.environ |= {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1"}
os.environ.setdefault("VLLM_LOGGING_LEVEL", "CRITICAL")

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.policy import Encoded
from nlhf.language.vllm_engine import Engine
from nlhf.language.vllm_sampling import VllmDecoder, start_vllm
from tests.architectures import ARCHITECTURES, policy_of
from tests.policies import PROMPTS, make_policy
from tests.trainers import make_trainer

LENGTH, ANSWERS = 3, 3000


def slots(starts: Tensor, places: Tensor, blocks: Tensor, out: Tensor, size: int) -> None:
    """Where in the cache each token belongs."""
    for row, (a, b) in enumerate(pairwise(starts.tolist())):
        place = places[a:b].long()
        out[a:b] = blocks[row, place // size].long() * size + place % size


def store(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slot: Tensor, isa: str, **_: Any
) -> None:
    """Put keys and values [tokens, heads, width] into caches [blocks, heads, size, width]."""
    n = min(len(slot), len(key))
    used, size = slot[:n] >= 0, keys.shape[2]
    block, place = slot[:n][used] // size, slot[:n][used] % size
    keys[block, :, place], values[block, :, place] = key[:n][used], value[:n][used]


def attend(**given: Any) -> None:
    """Causal attention of each request's new tokens to its blocks."""
    starts, out, query = given["query_start_loc"].tolist(), given["output"], given["query"]
    window, cap, slopes = given["sliding_window"], given["softcap"], given["alibi_slopes"]
    for row, (a, b) in enumerate(pairwise(starts)):
        if a == b:
            continue
        length, size = int(given["seq_lens"][row]), given["key_cache"].shape[2]
        block = given["block_table"][row, : -(-length // size)].long()
        caches = (given["key_cache"], given["value_cache"])
        parts = (cache[block].transpose(1, 2).flatten(0, 1)[:length] for cache in caches)
        share = query.shape[1] // caches[0].shape[1]
        keys, values = (part.repeat_interleave(share, 1).float() for part in parts)
        weights = torch.einsum("qhd,khd->hqk", query[a:b].float(), keys) * given["scale"]
        weights = cap * torch.tanh(weights / cap) if cap else weights
        gap = torch.arange(length)[None] - (torch.arange(b - a) + length - b + a)[:, None]
        if slopes is not None:
            weights = weights + slopes[:, None, None] * gap
        seen = (gap <= 0) & (gap > -window) if window > 0 else gap <= 0
        weights = weights.masked_fill(~seen, -torch.inf).softmax(-1)
        found = torch.einsum("hqk,khd->qhd", weights, values)
        out[a:b] = found.to(out.dtype).reshape(out[a:b].shape)


def draw(logits: Tensor, seeds: Tensor) -> Tensor:
    """The token of the largest logit plus Gumbel noise, [rows]."""
    drawn = []
    for row, seed in zip(logits, seeds.tolist(), strict=True):
        g = torch.Generator().manual_seed(seed)
        u = torch.rand(row.shape, generator=g, dtype=torch.float64).clamp_min(1e-300)
        drawn.append(int((row.double() - (-u.log()).log()).argmax()))
    return torch.tensor(drawn)


def replace_kernels() -> None:
    """Give vLLM these operations, and no others of its own."""
    import vllm
    import vllm._custom_ops as kernels

    compiled: Any = torch.ops._C
    compiled.init_cpu_memory_env = lambda nodes: None
    compiled.compute_slot_mapping_kernel_impl = slots
    compiled.fused_gumbel_argmax = draw
    compiled.gelu_new = compiled.gelu_fast = compiled.gelu_quick = None  # named, and not called
    kernels.cpu_attn_get_scheduler_metadata = lambda **given: torch.zeros(1)
    kernels.cpu_attn_reshape_and_cache = store
    kernels.cpu_attention_with_kv_cache = attend
    whole = vllm.LLM
    plain = {"enforce_eager": True, "compilation_config": {"mode": 0, "custom_ops": ["none"]}}
    vllm.LLM = lambda *given, **settings: whole(*given, **settings, **plain)


def verdict(name: str, kind: str) -> str:
    """Whether vLLM computes the policy of that architecture."""
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    prompts = Encoded(ids, torch.ones_like(ids, dtype=torch.bool))
    policy = policy_of(name, kind, torch.float32)
    try:
        decoder = VllmDecoder(engine=Engine(policy, 40, 0.3, "float32"))
        decoder.check(policy, prompts, Sampling(LENGTH))
    except InputError as error:
        return str(error)
    return "the same policy"


def furthest(kind: str) -> float:
    """The largest |z| of tokens' frequencies at each place, of pi's answers and of mu's."""
    policy = make_policy(kind, dtype=torch.float32)
    decoder = start_vllm(policy, PROMPTS, Sampling(LENGTH), Decoder(), memory=0.3, dtype="float32")
    u, worst = draw_uniforms(ANSWERS, LENGTH, torch.Generator().manual_seed(5)), 0.0
    for rows in ((ANSWERS, 0, 0.0), (0, ANSWERS, 1.0)):
        given = (policy, policy.encode(["a b"]), *rows, Sampling(LENGTH), u)
        both = decode(*given), decoder(*given)
        for t in range(LENGTH):
            tokens = (torch.where(each.mask[:, t], each.tokens[:, t], 6) for each in both)
            mine, theirs = (torch.bincount(each, minlength=7) / ANSWERS for each in tokens)
            share = (mine + theirs) / 2
            error = (2 * share * (1 - share) / ANSWERS).sqrt() + 1e-9
            worst = max(worst, float(((mine - theirs) / error).abs().max()))
    return worst


def main() -> None:
    replace_kernels()
    for kind in ("full", "lora"):
        for name in ("nash-md", "nash-ema", "best-response", "comal", "stackelberg"):
            policy = make_policy(kind, dtype=torch.float32)
            trainer = make_trainer(policy, name=name, length=LENGTH, learning_rate=0.5)
            given = (policy, [*PROMPTS, 2 * f"{PROMPTS[0]} "], trainer.sampling, Decoder())
            trainer.decoder = start_vllm(*given, memory=0.3, dtype="float32")
            off = max(trainer.step()["sampling_logp_difference"] for _ in range(3))
            print(f"{name}, {kind}: {off:.1e} nats per token apart", flush=True)
        print(f"answers, {kind}: largest z {furthest(kind):.2f}", flush=True)
        for name in ARCHITECTURES:
            print(f"{name}, {kind}: {verdict(name, kind)}", flush=True)


if __name__ == "__main__":
    main()
