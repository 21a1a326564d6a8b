"""A model's rows in a fixed-length cache, whose tensors stay in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nlhf.language.caches import holds_keys_only
from nlhf.language.policy import Policy
from nlhf.language.streams import Rows, Stream, Streams
from nlhf.language.suitability import ANSWER, COARSE, SHARE, apart, log_probs, tokens_to_try

ROOM = 64
"""Cache lengths are multiples of this, to limit the number of step shapes."""


class NotStatic(Exception):
    """The reason why a model's cache cannot have fixed length."""


def static_cache(config: Any, length: int) -> Any:
    """An empty cache of `length` positions for a model of this config.

    Layers with a window also store all positions; their mask hides positions outside the window.
    The number of tokens read stays on the device, whereas transformers' own windowed layer counts
    it on the host.

    Raises:
        NotStatic: a layer stores something other than keys and values.
    """
    from transformers import Cache, StaticCache
    from transformers import cache_utils as kinds

    plain, windowed = kinds.StaticLayer, kinds.StaticSlidingWindowLayer
    layers: list[Any] = []
    for layer in StaticCache(config=config, max_cache_len=length).layers:
        if type(layer) in (plain, windowed):
            layers.append(plain(max_cache_len=length))
        elif type(layer) is getattr(kinds, "DummyLayer", None):
            layers.append(layer)
        else:
            raise NotStatic(f"its cache has a {type(layer).__name__}, not keys and values alone")
    if not all(isinstance(_read(each), Tensor) for each in layers if type(each) is plain):
        raise NotStatic("this transformers counts a static cache's tokens on the host; update it")
    return Cache(layers=layers)


def _read(layer: Any) -> Any:
    return getattr(layer, "cumulative_length", None)


class FixedStream:
    """Rows of a `Stream` in fixed tensors that are reused from batch to batch."""

    def __init__(self, like: Stream, length: int) -> None:
        """Allocate `length` tokens of prompt and answer for each of the stream's rows.

        Raises:
            NotStatic: see `static_cache`.
        """
        self._run, self._n_pi = like.run, like.n_pi
        self.cache = static_cache(like.run.model.config, length)
        rows, device = len(like.index), like.ids.device
        self._mask = torch.ones(rows, length, dtype=torch.bool, device=device)
        self._position = torch.zeros(rows, 1, dtype=torch.long, device=device)

    def take(self, stream: Stream) -> Tensor:
        """Run a stream's prompts and copy its cache; return the logits after them, [rows, V].

        Raises:
            NotStatic: the stream's cache has states.
        """
        logits = stream.read()
        index, width = stream.index, stream.width
        if not holds_keys_only(stream.cache):
            raise NotStatic("its cache has states, not keys and values alone")
        for mine, read in zip(self.cache.layers, stream.cache.layers, strict=True):
            if read.keys is not None:
                _take_over(mine, read, index, width)
        self._mask.fill_(True)
        self._mask[:, :width] = stream.prompt_mask[index]
        self._position.copy_(stream.last[index])
        return logits[index]

    def step(self, tokens: Tensor) -> Tensor:
        """Run one more token per row, [rows]; every call has the same shape."""
        self._position.add_(1)
        return self._run(tokens[:, None], self._mask, self._position, self._n_pi, self.cache)


def _take_over(mine: Any, read: Any, index: Tensor, width: int) -> None:
    """Copy a layer's keys and values of the rows' prompts; a window only has its last ones."""
    if not mine.is_initialized:
        shape = (len(index), read.keys.shape[1], 0)
        blank = (each.new_empty(*shape, each.shape[-1]) for each in (read.keys, read.values))
        mine.lazy_initialization(*blank)
    start = width - read.keys.shape[2]
    for here, there in ((mine.keys, read.keys), (mine.values, read.values)):
        here[:, :, start:width] = there[index]
        here[:, :, width:] = 0  # masked entries have no effect unless they are NaN
    mine.cumulative_length.fill_(width)


class FixedStreams:
    """Both models' rows in fixed-length caches; see `Streams`."""

    def __init__(self, like: Streams, length: int) -> None:
        """Allocate the tensors; see `FixedStream`."""
        self.rows: Rows = like.rows
        self.width = length
        self.streams = [FixedStream(each, length) for each in like.streams]

    def take(self, streams: Streams) -> tuple[Tensor, Tensor]:
        """Run the prompts of streams with as many rows; return logits like `prefill`."""
        pairs = zip(self.streams, streams.streams, strict=True)
        return self.rows.split([mine.take(each) for mine, each in pairs])


@torch.no_grad()
def unfit(policy: Policy) -> str | None:
    """Why a policy cannot be decoded with fixed-length caches; None if it can.

    The test uses two prompts, one of them padded, with answers of three tokens each. Fixed-length
    and growing caches must give the same result, up to rounding.
    """
    prompts, drawn, _ = tokens_to_try(policy)
    both = policy.reference is not None or policy.has_adapter
    given = (policy, prompts, 1, int(both), 0.5, ANSWER)
    fed = torch.cat((drawn, drawn)) if both else drawn
    try:
        streams = Streams(*given)
        fixed = FixedStreams(streams, prompts.ids.shape[1] + ANSWER + 1)
        found, expected = [fixed.take(Streams(*given))], [streams.prefill()]
        for tokens in fed[:, :-1].T:
            pairs = zip(fixed.streams, fixed.rows.fed(tokens), strict=True)
            found.append(fixed.rows.split([each.step(part) for each, part in pairs]))
            expected.append(streams.step(tokens))
    except NotStatic as reason:
        return str(reason)
    except Exception as error:  # third-party models can raise anything
        return f"its static cache fails: {type(error).__name__}: {_line(error)}"
    dtype = next(policy.model.parameters()).dtype
    for i, name in enumerate(("policy", "reference")[: 1 + both]):
        mine, theirs = (log_probs(torch.stack([s[i] for s in each])) for each in (found, expected))
        if not bool(torch.isfinite(theirs).all()):
            return None  # its loss will report it
        most = 2e-6 + SHARE.get(dtype, 3e-4) * float(apart(theirs[0], theirs[1]).max())
        off = apart(mine, theirs)
        largest = float(off.mean() if dtype in COARSE else off.max())
        if not largest <= most:  # written so that NaN counts as large
            return f"a static cache changes the {name}'s probabilities, by up to {largest:.1g}"
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
