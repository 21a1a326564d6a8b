"""Whole answers of the policy or of its reference by vLLM; every mixture is decoded here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Answers, Sampling, check_draws
from nlhf.language.objectives.base import MIXTURE, Plan
from nlhf.language.policy import Encoded, Policy
from nlhf.language.scoring import score
from nlhf.language.vllm_engine import Engine, told

COLDEST = 0.01
"""vLLM raises lower temperatures to this one."""
NOISE = 0.3
"""Standard deviation of the noise that an adapter has while weights are compared."""
FAR = {"float32": 5e-3, "bfloat16": 0.1}
"""Largest mean difference of a token's log-probability between vLLM and the policy, nats."""


@dataclass(kw_only=True)
class VllmDecoder(Decoder):
    """Draws whole answers of pi or mu alone by vLLM, and all others as `Decoder` does.

    The mixture needs the distributions of pi and mu at every token, and draws from a third one;
    vLLM samples from one model and returns single log-probabilities. Rows with cuts are decoded
    here too, because vLLM penalises repetitions in another way.

    vLLM's kernels round in their own way. So its answers come from a slightly different policy than
    the one that is scored, which biases the gradient as rounding does. `check` compares the two
    once; the measure `sampling_logp_difference` of every step goes on doing so.

    Attributes:
        engine: vLLM.
        dtype: dtype of its weights, "float32" or "bfloat16".
    """

    engine: Engine
    dtype: str = "float32"

    @torch.no_grad()
    def __call__(
        self,
        policy: Policy,
        prompts: Encoded,
        own: int,
        mixed_rows: int,
        weight: float,
        sampling: Sampling,
        uniforms: Tensor,
        *,
        all_done: Callable[[bool], bool] = lambda done: done,
    ) -> Answers:
        """See `decode`."""
        check_draws(policy, prompts, own + mixed_rows, weight, sampling, uniforms)
        n_own, cuts = own * len(prompts.ids), sampling.limits.cut
        parts: list[Answers] = []
        taken: bool | None = None  # whose weights vLLM has: those of mu, or of pi
        for counts, w, cut, u in (
            ((own, 0), 0.0, cuts and sampling.truncate_own, uniforms[:n_own]),
            ((0, mixed_rows), weight, cuts, uniforms[n_own:]),
        ):
            if not any(counts):
                continue
            if cut or w not in (0, 1):
                given = (policy, prompts, *counts, w, sampling, u)
                parts.append(super().__call__(*given, all_done=all_done))
                continue
            reference = w == 1
            if taken != reference:
                self.engine.take(policy, reference=reference)
                taken = reference
            drawn = self.engine.draw(policy, prompts, sum(counts), sampling, u)
            tokens, mask, ended, logs = drawn
            blank = torch.where(mask, torch.nan, 0.0)
            scores = (blank, logs) if reference else (logs, blank)
            parts.append(Answers(tokens, mask, ended, *scores))
        return _joined(parts, policy.pad_id)

    @torch.no_grad()
    def check(self, policy: Policy, prompts: Encoded, sampling: Sampling) -> None:
        """Compare the log-probabilities of answers by vLLM with those of the policy.

        An adapter has noise meanwhile, because a new one adds nothing and would hide mistakes. Its
        weights are bitwise unchanged afterwards.

        Raises:
            InputError: they differ by more than rounding.
        """
        generator = torch.Generator().manual_seed(0)
        held: Mapping[str, Tensor] = dict(policy.trainable())
        if policy.has_adapter:
            held = {
                name: p + NOISE * torch.randn(p.shape, generator=generator).to(p)
                for name, p in held.items()
            }
        length = sampling.max_new_tokens
        uniforms = torch.rand(
            2 * len(prompts.ids), length, generator=generator, dtype=torch.float64
        )
        plain = replace(sampling.whole, truncate_own=False)
        index = torch.arange(len(prompts.ids), device=policy.device).repeat_interleave(2)
        with policy.holding(held):
            try:
                self.engine.take(policy, reference=False)
                tokens, mask, _, logs = self.engine.draw(policy, prompts, 2, plain, uniforms)
            except InputError:
                raise
            except Exception as error:  # other versions, and models that it stores in other ways
                reason = f"{type(error).__name__}: {told(error)}"
                raise InputError(
                    f"sampler=vllm: vLLM cannot draw from {policy.name}: {reason}; leave it out"
                ) from None
            settings: dict[str, Any] = {"index": index, "temperature": plain.temperature}
            mine = score(policy, prompts, tokens, mask, **settings).log_prob
        off = float((mine - logs)[mask].abs().mean())
        # written so that NaN counts as far
        if not off <= FAR[self.dtype]:
            raise InputError(
                f"sampler=vllm: vLLM computes another policy from the weights of {policy.name} "
                f"({off:.3g} nats per token apart); leave it out"
            )


def has_whole_rows(plan: Plan, sampling: Sampling) -> bool:
    """Whether some answers of a plan come from one model alone, and are not cut."""
    scored = any(each.policy != MIXTURE or each.weight in (0, 1) for each in plan.scored)
    if sampling.limits.cut:  # cuts act on opponents, and on a mixture that is scored
        return any(each.policy != MIXTURE for each in plan.scored)
    return scored or any(each.policy != MIXTURE or each.weight in (0, 1) for each in plan.opponents)


def start_vllm(
    policy: Policy,
    prompts: Sequence[Any],
    sampling: Sampling,
    decoder: Decoder,
    *,
    memory: float,
    dtype: str,
) -> VllmDecoder:
    """Start vLLM for a run, and compare it with the policy.

    Args:
        policy: the policy that learns.
        prompts: all prompts of the run.
        sampling: how answers are drawn.
        decoder: how the others are decoded.
        memory: share of the GPU's memory that vLLM takes.
        dtype: "float32" or "bfloat16".

    Raises:
        InputError: vLLM is missing or does not start, or it computes another policy.
    """
    if sampling.temperature < COLDEST:
        raise InputError(
            f"sampler=vllm draws at temperatures of {COLDEST} or more, and temperature="
            f"{sampling.temperature:g}; raise it, or leave out sampler=vllm"
        )
    longest = max(len(policy.shortened(policy.prompt_tokens(each))) for each in prompts)
    # a follower's prompt holds an answer too
    room = min(policy.context or 2**31, 2 * (longest + sampling.max_new_tokens) + 64)
    engine = Engine(policy, room, memory, dtype)
    made = VllmDecoder(decoder.cache, decoder.recorder, decoder.note, engine=engine, dtype=dtype)
    made.check(policy, policy.encode(list(prompts[:4])), sampling)
    return made


def _joined(parts: Sequence[Answers], pad: int) -> Answers:
    """Answers of several draws, one after the other."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.tokens.shape[1] for part in parts)

    def wide(rows: Tensor, blank: float) -> Tensor:
        return torch.nn.functional.pad(rows, (0, longest - rows.shape[1]), value=blank)

    logs = [(part.log_pi, part.log_mu) for part in parts]
    return Answers(
        torch.cat([wide(part.tokens, pad) for part in parts]),
        torch.cat([wide(part.mask, False) for part in parts]),
        torch.cat([part.ended for part in parts]),
        *(torch.cat([wide(pair[i], 0.0) for pair in logs]) for i in (0, 1)),
    )
