"""Choose how to decode: token by token, or by a recorded step with fixed-length caches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from nlhf.errors import InputError
from nlhf.language.cuts import Cuts
from nlhf.language.decoding import (
    Answers,
    Sampling,
    answers,
    at,
    check_draws,
    decode,
    draw_tokens,
    drawn_from,
    rows_of_prompts,
    tempered,
)
from nlhf.language.policy import Encoded, Policy
from nlhf.language.static_caches import ROOM, FixedStreams, unfit
from nlhf.language.streams import Streams
from nlhf.recorder import AbstractRecorder, CudaRecorder, at_once

CacheKind = Literal["auto", "static", "dynamic"]
KEPT = 8
"""Number of step shapes kept with their caches and graphs; the least recently used is dropped."""
LOOK = 4
"""Tokens between checks whether all rows have ended; the host sees each result one check later."""
WARM = 1
"""Number of steps taken eagerly before a step is recorded."""


class Program:
    """A decoding step of fixed shape: every tensor that it reads or writes stays in place.

    The models read the tokens drawn last. Their outputs are mixed and truncated. Each row's next
    uniform number draws its token. Tokens, scores and ends are written at the next position of the
    answers. That position is also kept on the device.
    """

    def __init__(
        self, policy: Policy, like: Streams, own: int, weight: float, sampling: Sampling, room: int
    ) -> None:
        """Allocate tensors for the rows of `like`, of which pi has `own`."""
        self.fixed, self.own, self.weight = FixedStreams(like, room), own, weight
        self.rows, self.sampling = like.rows, sampling
        self.device, self.pad = policy.device, policy.pad_id
        n, length = self.rows.n, sampling.max_new_tokens
        self.uniforms = torch.zeros(n, length, dtype=torch.float64, device=self.device)
        self.w = torch.tensor(weight, device=self.device)
        self.place = torch.zeros(1, dtype=torch.long, device=self.device)
        self.tokens = torch.full((n, length), self.pad, device=self.device)
        self.drawn = torch.full((n,), self.pad, device=self.device)
        self.mask = torch.zeros(n, length, dtype=torch.bool, device=self.device)
        self.done = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.ended = torch.zeros((), dtype=torch.bool, device=self.device)
        self.scores: tuple[Tensor, Tensor] | None = None
        self.cuts: Cuts | None = None
        self._ends = torch.tensor(policy.end_ids, dtype=torch.long, device=self.device)
        self._shortest = policy.shortest if policy.end_ids else 0
        self._advance: Callable[[], None] = self.step
        self.taken = 0

    def begin(self, streams: Streams, prompts: Encoded, uniforms: Tensor, weight: float) -> None:
        """Run the prompts and draw the first tokens.

        Args:
            streams: models and caches for these prompts, with the same number of rows.
            prompts: the prompts of the rows to be truncated.
            uniforms: see `decode`.
            weight: weight of the reference.
        """
        self.uniforms.copy_(uniforms, non_blocking=True)
        self.w.fill_(weight)
        self.tokens.fill_(self.pad)
        for tensor in (self.place, self.mask, self.done):
            tensor.zero_()
        if self.cuts is None:
            start = self.rows.n - len(prompts.ids)
            self.cuts = Cuts(self.sampling.limits, prompts, start)
        self.cuts.restart(prompts)
        self.sample(*self.fixed.take(streams))

    def step(self) -> None:
        """Read the tokens drawn last and draw the next ones."""
        fed = zip(self.fixed.streams, self.rows.fed(self.drawn), strict=True)
        works = [lambda s=stream, part=part: s.step(part) for stream, part in fed]
        self.sample(*self.rows.split(at_once(works, self.device)))

    def sample(self, pi: Tensor, mu: Tensor) -> None:
        """Draw tokens by the logits of pi [n_pi, V] and mu [n_mu, V], and store them."""
        assert self.cuts is not None
        t, n = self.place, self.rows.n
        log_pi, log_mu = (
            tempered(self._allowed(each), self.sampling.temperature) for each in (pi, mu)
        )
        log_q = drawn_from(log_pi, log_mu, self.own, n, self.w, self.weight)
        drawn = draw_tokens(self.cuts(log_q), self.uniforms.index_select(1, t)[:, 0])
        self.cuts.mark_seen(drawn)
        drawn = drawn.masked_fill(self.done, self.pad)
        if self.scores is None:
            shapes = ((len(each), self.tokens.shape[1]) for each in (log_pi, log_mu))
            kept = tuple(log_pi.new_zeros(shape) for shape in shapes)
            self.scores = kept[0], kept[1]
        self.tokens.index_copy_(1, t, drawn[:, None])
        self.mask.index_copy_(1, t, ~self.done[:, None])
        found = at(log_pi, drawn[: len(log_pi)]), at(log_mu, drawn[n - len(log_mu) :])
        for kept, each in zip(self.scores, found, strict=True):
            kept.index_copy_(1, t, each[:, None])
        self.done.logical_or_((drawn[:, None] == self._ends).any(1))
        self.ended.copy_(self.done.all())
        self.drawn.copy_(drawn)
        t.add_(1)

    def _allowed(self, logits: Tensor) -> Tensor:
        """`Policy.allowed` with the position kept on the device."""
        if not self._shortest:
            return logits
        early = logits.index_fill(-1, self._ends, -torch.inf)
        return torch.where(self.place < self._shortest, early, logits)

    @property
    def recorded(self) -> bool:
        """Whether `advance` replays a recorded step."""
        return self._advance != self.step

    def advance(self) -> None:
        """Take a step, by replay if it was recorded."""
        self._advance()
        self.taken += 1

    def record(self, recorder: AbstractRecorder) -> None:
        """Record a step, without taking it; later calls of `advance` replay it.

        Raises:
            RuntimeError: an operation in the step waits for the device.
        """
        self._advance = recorder.record(self.step)

    def found(self) -> Answers:
        """The answers so far, up to the length of the longest."""
        assert self.scores is not None
        used = max(int(self.mask.sum(1).max()), 1)
        log_pi, log_mu = (each[:, :used].clone() for each in self.scores)
        tokens, mask = (each[:, :used].clone() for each in (self.tokens, self.mask))
        return answers(tokens, mask, self.done.clone(), log_pi, log_mu)


@dataclass
class Decoder:
    """Samples answers as `decode` does; on a GPU it uses recorded steps.

    The uniform numbers are drawn on the host by the run's generator and copied once per batch, so a
    run uses the same numbers on every device. All other sampling happens on the device. A shape
    consists of the number of rows, the longest answer and the room for prompt and answer. Each
    shape is recorded when it first occurs.

    Attributes:
        cache: "auto" uses recorded steps on a GPU where the model allows it; "static" uses
            fixed-length caches on a CPU too, step by step; "dynamic" uses growing caches.
        recorder: records steps instead of CUDA graphs, also on a CPU.
        note: called once with each message about how decoding runs.
    """

    cache: CacheKind = "auto"
    recorder: AbstractRecorder | None = None
    note: Callable[[str], None] = lambda text: None
    _programs: OrderedDict[Hashable, Program] = field(default_factory=OrderedDict, repr=False)
    _reasons: dict[Hashable, str | None] = field(default_factory=dict, repr=False)
    _noted: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if self.cache not in get_args(CacheKind):
            raise InputError(
                f"cache={self.cache!r} is unknown; use one of {', '.join(get_args(CacheKind))}"
            )

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
        """See `decode`; `all_done` is only called once every few tokens."""
        given = (policy, prompts, own, mixed_rows, weight, sampling, uniforms)
        cuda = policy.device.type == "cuda"
        if self.cache == "dynamic" or (self.cache == "auto" and not (cuda or self.recorder)):
            return decode(*given, all_done=all_done)
        place, reason = self._fit(policy)
        if reason is not None:
            self._tell(f"decoding token by token with growing caches: {reason}")
            return decode(*given, all_done=all_done)
        check_draws(policy, prompts, own + mixed_rows, weight, sampling, uniforms)
        streams = Streams(policy, prompts, own, mixed_rows, weight, sampling.max_new_tokens)
        program = self._program(place, policy, streams, prompts, own, weight, sampling)
        cut = rows_of_prompts(prompts, own, mixed_rows, sampling)
        program.begin(streams, cut, uniforms, weight)
        self._play(program, place, all_done)
        return program.found()

    def _fit(self, policy: Policy) -> tuple[Hashable, str | None]:
        """Where the weights are, and why a step cannot be recorded; tested once per location."""
        if any(isinstance(weights, DTensor) for weights in policy.model.parameters()):
            return None, "the weights are in shards, which processes gather in every pass"
        place = _places(policy)
        if place not in self._reasons:
            self._reasons[place] = unfit(policy)
        return place, self._reasons[place]

    def _program(
        self,
        place: Hashable,
        policy: Policy,
        streams: Streams,
        prompts: Encoded,
        own: int,
        weight: float,
        sampling: Sampling,
    ) -> Program:
        """The program of this shape, moved to the most recently used position."""
        n_own = own * len(prompts.ids)
        most = prompts.ids.shape[1] + sampling.max_new_tokens
        room = -(-most // ROOM) * ROOM
        kind = weight if weight in (0, 1) else 0.5
        ends = (policy.shortest, policy.end_ids, policy.pad_id)
        shape = (place, streams.rows, n_own, room, kind, sampling, ends)
        if shape not in self._programs:
            while len(self._programs) >= KEPT:
                self._programs.popitem(last=False)
            self._programs[shape] = Program(policy, streams, n_own, weight, sampling, room)
        self._programs.move_to_end(shape)
        return self._programs[shape]

    def _play(self, program: Program, place: Hashable, all_done: Callable[[bool], bool]) -> None:
        recorder = self.recorder
        if recorder is None and program.device.type == "cuda":
            recorder = CudaRecorder()
        read_ended: Callable[[], Any] | None = None
        for t in range(1, program.sampling.max_new_tokens):
            if recorder is not None and program.taken >= WARM and not program.recorded:
                recorder = self._record(program, place, recorder)
            program.advance()
            if t % LOOK == 0:
                if read_ended is not None and all_done(bool(read_ended())):
                    break
                read_ended = _fetched(program.ended, recorder)

    def _record(
        self, program: Program, place: Hashable, recorder: AbstractRecorder
    ) -> AbstractRecorder | None:
        """Record a step; if that fails, continue step by step and stop recording."""
        rows, width = program.rows, program.fixed.width
        try:
            program.record(recorder)
        except RuntimeError as error:
            self._reasons[place] = f"a step cannot be recorded: {str(error).partition(chr(10))[0]}"
            self._programs.clear()
            self._tell(f"decoding token by token with growing caches: {self._reasons[place]}")
            return None
        self._tell(
            f"decoding by recorded steps: {rows.n_pi} rows of the policy and {rows.n_mu} of the "
            f"reference, {width} places"
        )
        return recorder

    def _tell(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)


def _fetched(number: Tensor, recorder: AbstractRecorder | None) -> Callable[[], Any]:
    """Start fetching a number's current value; on a GPU the host does not wait until it is read."""
    if recorder is not None:
        return recorder.fetch(number)
    kept = number.clone()
    return lambda: bool(kept)


def _places(policy: Policy) -> Hashable:
    """The memory addresses of the weights, which recorded steps read."""
    models = [model for model in (policy.model, policy.reference) if model is not None]
    tensors = (t for m in models for part in (m.parameters(), m.buffers()) for t in part)
    return tuple((t.data_ptr(), t.dtype) for t in tensors)
