"""A stand-in for vLLM on a CPU: the calls that are used, with arguments that vLLM has.

It knows nothing of this project. It builds the architecture of a config with random weights, takes
weights by the names of a checkpoint, and samples token by token with plain passes of transformers,
one request at a time. `tests/cases/vllm_interface.json` lists the names of vLLM 0.33.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

INTERFACE = json.loads(
    (Path(__file__).parents[2] / "cases" / "vllm_interface.json").read_text("utf-8")
)


def known(call: str, given: Iterable[str]) -> None:
    """Raise as Python does on an argument that vLLM does not have."""
    odd = set(given) - set(INTERFACE[call])
    if odd:
        raise TypeError(f"{call}() got an unexpected keyword argument {min(odd)!r}")


class SamplingParams:
    """How one request is sampled."""

    def __init__(self, **given: Any) -> None:
        known("SamplingParams", given)
        settings: dict[str, Any] = {"temperature": 1.0, "max_tokens": 16, "min_tokens": 0}
        settings |= {"stop_token_ids": [], "seed": None, "logprobs": None, "ignore_eos": False}
        self.__dict__.update(settings | given)


class Loaded(nn.Module):
    """A model that takes weights by name."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model
        self.known: dict[tuple[int, ...], Tensor] = {}

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Copy each weight; a name or a shape that the model lacks is an error."""
        own = dict(self.inner.named_parameters())
        names = set()
        with torch.no_grad():
            for name, weight in weights:
                assert own[name].shape == weight.shape, name
                own[name].copy_(weight)
                names.add(name)
        self.known.clear()
        return names

    def logits(self, ids: list[int]) -> Tensor:
        """The logits after these tokens, by a plain pass for each different sequence."""
        key = tuple(ids)
        if key not in self.known:
            self.known[key] = self.inner(input_ids=torch.tensor([ids])).logits[0, -1].float()
        return self.known[key].clone()


@dataclass
class LLM:
    """The engine; `prefixes` are prompts whose keys would be kept."""

    model: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __init__(self, model: str, **given: Any) -> None:
        known("LLM", given)
        import transformers

        self.settings = given
        assert given["load_format"] == "dummy"
        config = transformers.AutoConfig.from_pretrained(model)
        kind = getattr(transformers, config.architectures[0])
        dtype = getattr(torch, given["dtype"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12345)  # weights that no one meant
            self.loaded = Loaded(kind(config).to(dtype).eval())
        assert all(engine.ended for engine in ENGINES), "a process has one engine"
        self.ended = False
        core = SimpleNamespace(shutdown=lambda: setattr(self, "ended", True))
        self.llm_engine = SimpleNamespace(engine_core=core)
        self.prefixes: set[tuple[int, ...]] = set()
        self.requests = 0
        ENGINES.append(self)

    def apply_model(self, func: Callable[[nn.Module], Any]) -> list[Any]:
        """Call a function with the model of the only worker."""
        self.stale = bool(self.prefixes)
        return [func(self.loaded)]

    def reset_prefix_cache(self) -> bool:
        """Forget the keys of prompts."""
        self.prefixes.clear()
        self.stale = False
        return True

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[dict[str, list[int]]], sampling_params: Any, **given: Any
    ) -> list[Any]:
        """One answer to each prompt."""
        known("generate", given)
        assert not self.stale, "the keys of prompts belong to other weights"
        self.requests += len(prompts)
        pairs = zip(prompts, sampling_params, strict=True)
        return [SimpleNamespace(outputs=[self._one(**each, params=how)]) for each, how in pairs]

    stale = False

    def _one(self, prompt_token_ids: list[int], params: Any) -> Any:
        room = self.settings["max_model_len"]
        assert len(prompt_token_ids) + params.max_tokens <= room
        self.prefixes.add(tuple(prompt_token_ids))
        ids, said, reason = list(prompt_token_ids), [], "length"
        g = torch.Generator().manual_seed(params.seed)
        for t in range(params.max_tokens):
            logits = self.loaded.logits(ids)
            if t < params.min_tokens:
                logits[params.stop_token_ids] = -torch.inf
            log = torch.log_softmax(logits / params.temperature, -1)
            token = int(torch.multinomial(log.exp(), 1, generator=g))
            ids.append(token)
            said.append({token: SimpleNamespace(logprob=float(log[token]))})
            if token in params.stop_token_ids:
                reason = "stop"
                break
        answer = ids[len(prompt_token_ids) :]
        return SimpleNamespace(token_ids=answer, logprobs=said, finish_reason=reason)


ENGINES: list[LLM] = []
"""The engines that were started."""
