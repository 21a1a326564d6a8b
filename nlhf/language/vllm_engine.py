"""vLLM in this process: it starts without weights, is handed those of a policy, and samples."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.decoding import Sampling
from nlhf.language.exporting import check_exportable, exported
from nlhf.language.extras import need
from nlhf.language.policy import Encoded, Policy

_DRAWN = 2**53


class Engine:
    """vLLM with the architecture of a policy; it is given weights before it samples.

    It runs in this process, on the policy's GPU. It starts with the policy's config alone, so any
    model that `load_policy` can load will do, whether vLLM could read its folder or not. A process
    has one; an earlier one ends when another starts.
    """

    _running: ClassVar[list[Engine]] = []

    def __init__(self, policy: Policy, room: int, memory: float, dtype: str) -> None:
        """Start vLLM.

        Args:
            policy: it has the architecture.
            room: largest number of tokens of prompt and answer together.
            memory: share of the GPU's memory that vLLM takes, in (0, 1).
            dtype: "float32" or "bfloat16".

        Raises:
            InputError: vLLM is missing or does not start, or the policy cannot be handed to it.
        """
        check_exportable(policy)
        # weights can only be handed over within this process, and seeds only hold there
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        self._vllm: Any = need("vllm")
        self._room = room
        while Engine._running:
            Engine._running.pop().close()
        model: Any = policy.model
        inner = model.get_base_model() if policy.has_adapter else model
        classes, name = _classes(inner), f"{policy.name} ({type(inner).__name__})"
        try:
            self._llm: Any = self._start(inner, memory, dtype)
        except Exception as error:  # it needs a GPU, memory and an architecture that it knows
            _restore(classes)
            raise InputError(
                f"sampler=vllm: vLLM does not start with {name}: {told(error)}; leave it out"
            ) from None
        if _restore(classes):
            self.close()
            raise InputError(
                f"sampler=vllm: vLLM has no {name} of its own, and changes that of transformers, "
                "which the policy needs; leave it out"
            )
        Engine._running.append(self)

    def _start(self, model: Any, memory: float, dtype: str) -> Any:
        config = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]
        folder = tempfile.mkdtemp(prefix="vllm-config-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        config.save_pretrained(folder)
        return self._vllm.LLM(
            folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            model_impl="vllm",
            dtype=dtype,
            max_model_len=self._room,
            gpu_memory_utilization=memory,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
        )

    def close(self) -> None:
        """End vLLM, and give its memory back."""
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None

    def take(self, policy: Policy, *, reference: bool) -> None:
        """Copy the weights of pi, or of mu."""

        if self._llm is None:
            raise InputError("sampler=vllm: vLLM was started for another run in this process")

        def load(model: Any) -> None:
            model.load_weights(exported(policy, reference=reference))

        self._llm.apply_model(load)
        self._llm.reset_prefix_cache()  # it was filled by other weights

    def draw(
        self, policy: Policy, prompts: Encoded, count: int, sampling: Sampling, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw answers with the weights taken last.

        Args:
            policy: its tokens that end an answer, and its device.
            prompts: B prompts.
            count: answers per prompt.
            sampling: temperature and length; cuts are not applied.
            uniforms: [B count, length] in [0, 1); the first number of a row seeds its answer.

        Returns:
            Tokens [N, T], their mask, whether each row ended [N], and the tokens' log-probabilities
            [N, T] as vLLM computed them.
        """
        rows = [ids[mask].tolist() for ids, mask in zip(prompts.ids, prompts.mask, strict=True)]
        self._check_room(rows, sampling)
        requests = [{"prompt_token_ids": row} for row in rows for _ in range(count)]
        params = [
            self._vllm.SamplingParams(
                temperature=sampling.temperature,
                max_tokens=sampling.max_new_tokens,
                min_tokens=policy.shortest if policy.end_ids else 0,
                stop_token_ids=list(policy.end_ids),
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
                seed=int(first * _DRAWN),
            )
            for first in uniforms[:, 0].tolist()
        ]
        found = [out.outputs[0] for out in self._llm.generate(requests, params, use_tqdm=False)]
        longest = max(len(each.token_ids) for each in found)
        n, device = len(found), policy.device
        tokens = torch.full((n, longest), policy.pad_id)
        mask = torch.zeros(n, longest, dtype=torch.bool)
        logs = torch.zeros(n, longest, dtype=torch.float64)
        for i, each in enumerate(found):
            ids = list(each.token_ids)
            tokens[i, : len(ids)], mask[i, : len(ids)] = torch.tensor(ids), True
            said = zip(each.logprobs, ids, strict=True)
            logs[i, : len(ids)] = torch.tensor([place[token].logprob for place, token in said])
        ended = torch.tensor([each.token_ids[-1] in policy.end_ids for each in found])
        return tokens.to(device), mask.to(device), ended.to(device), logs.float().to(device)

    def _check_room(self, rows: Sequence[Sequence[int]], sampling: Sampling) -> None:
        longest = max(len(row) for row in rows)
        if longest + sampling.max_new_tokens > self._room:
            raise InputError(
                f"a prompt of {longest} tokens and an answer of {sampling.max_new_tokens} do not "
                f"fit into the {self._room} tokens that vLLM has room for; leave out sampler=vllm"
            )


_Class = tuple[tuple[type, ...], dict[str, Any]]
"""The bases of a class, and its own methods that vLLM may replace."""


def _classes(model: nn.Module) -> dict[type, _Class]:
    """The classes of a model's modules as they are now."""
    names = ("__init__", "__call__")
    kinds = {type(module) for module in model.modules()}
    return {kind: (kind.__bases__, {n: kind.__dict__.get(n) for n in names}) for kind in kinds}


def _restore(classes: Mapping[type, _Class]) -> bool:
    """Undo changes of classes; return whether there were any.

    For some architectures vLLM compiles the class of transformers itself, also where it is used
    without vLLM.
    """
    changed = False
    for kind, (bases, methods) in classes.items():
        if kind.__bases__ != bases:
            kind.__bases__, changed = bases, True
        for name, method in methods.items():
            if kind.__dict__.get(name) is not method:
                changed = True
                if method is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, method)
    return changed


def told(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:200] or repr(error)
