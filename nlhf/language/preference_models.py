"""Learned preferences P(a > b | x), antisymmetric by construction: three heads on one encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.encoders import AbstractEncoder, Segments, saved_encoder
from nlhf.language.model_folder import read_object
from nlhf.language.prompts import Prompt, text_of

PAIRWISE, SKEW, BRADLEY_TERRY = "pairwise", "skew-symmetric", "bradley-terry"
HEADS = (PAIRWISE, SKEW, BRADLEY_TERRY)
FORMAT = "preference model"
VERSION = 1


class PreferenceModel(nn.Module):
    """P(a > b | x) = sigmoid(z), where z changes sign when a and b are swapped.

            pairwise:        z = s(x, a, b) - s(x, b, a)           any preference; reads pairs
            skew-symmetric:  z = sum_l u_2l v_2l+1 - u_2l+1 v_2l   u, v = e(x, a), e(x, b) in R^2k
            bradley-terry:   z = r(x, a) - r(x, b)                 a reward: never cyclic

    s, e and r are a layer of `hidden` units on the encoder's features of the texts, see `scores`.
    With k planes, the skew-symmetric head can express cycles too, but reads each answer once
    instead of each pair.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 3, for the pairwise form, here used in
    both orders; Zhang et al. 2024 (arXiv 2410.02197), section 4, for the embedding; Bradley and
    Terry 1952.
    """

    def __init__(
        self,
        encoder: AbstractEncoder,
        head: str,
        *,
        hidden: int = 64,
        planes: int = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        """Put a new head on an encoder.

        Args:
            encoder: computes the features.
            head: one of HEADS.
            hidden: number of hidden units, >= 1.
            planes: k >= 1; used by skew-symmetric only.
            generator: draws the initial weights.

        Raises:
            InputError: an unknown head, or `hidden` or `planes` below 1.
        """
        super().__init__()
        if head not in HEADS:
            raise InputError(f"head={head!r} is unknown; use one of {', '.join(HEADS)}")
        if hidden < 1 or planes < 1:
            raise InputError(f"hidden={hidden} and planes={planes} must be at least 1")
        self.encoder, self.kind, self.hidden, self.planes = encoder, head, hidden, planes
        answers = 2 if head == PAIRWISE else 1
        out = 2 * planes if head == SKEW else 1
        self.first = nn.Linear((1 + 2 * answers) * encoder.width, hidden)
        self.last = nn.Linear(hidden, out)
        with torch.no_grad():
            for layer in (self.first, self.last):
                spread = layer.in_features**-0.5
                layer.weight.uniform_(-spread, spread, generator=generator)
                layer.bias.zero_()

    def rows(self, prompt: Prompt, a: str, b: str) -> tuple[Segments, Segments]:
        """The two rows to read to compare a with b; comparing b with a swaps them."""
        x = text_of(prompt)
        return ((x, a, b), (x, b, a)) if self.kind == PAIRWISE else ((x, a), (x, b))

    def scores(self, features: Tensor) -> Tensor:
        """The head's outputs for features [R, texts, width] of rows: [R, 1 or 2 k].

        The head sees the features of the prompt and of the answers, and the products of the two:
            whether
        an answer fits its prompt cannot be seen from either text alone.
        """
        features = nn.functional.layer_norm(features, features.shape[-1:])
        both = torch.cat((features, features[:, :1] * features[:, 1:]), 1)
        return self.last(nn.functional.gelu(self.first(both.flatten(1))))

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """z, [B], from the scores of both rows of each comparison."""
        if self.kind != SKEW:
            return (first - second)[:, 0]
        u, v = first.unflatten(-1, (-1, 2)), second.unflatten(-1, (-1, 2))
        return (u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]).sum(-1)

    def forward(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """z, [B], float64 without a gradient; z(a, b) = -z(b, a) holds exactly.

        Each text is read once, in an order that depends on the texts only. So rounding does not
        depend on the order of the comparisons.
        """
        rows = [self.rows(*each) for each in zip(prompts, a, b, strict=True)]
        unique = sorted({row for pair in rows for row in pair})
        number = {row: i for i, row in enumerate(unique)}
        with torch.no_grad():
            scores = self.scores(self.features(unique))
            first = scores[[number[row] for row, _ in rows]]
            second = scores[[number[row] for _, row in rows]]
            return self.compare(first, second).double().cpu()

    def features(
        self, rows: Sequence[Segments], advance: Callable[[int], None] = lambda n: None
    ) -> Tensor:
        """The encoder's features of rows, [R, texts, width], in as many passes as necessary."""
        device, texts = self.last.weight.device, len(rows[0]) if rows else 1
        out = torch.empty(len(rows), texts, self.encoder.width, device=device)
        with torch.no_grad():
            for numbers in self.encoder.passes(rows):
                out[numbers] = self.encoder([rows[i] for i in numbers]).to(out)
                advance(len(numbers))
        return out

    def probabilities(
        self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]
    ) -> Tensor:
        """P(a > b | x), [B], float64."""
        if not prompts:
            return torch.zeros(0, dtype=torch.float64)
        return torch.sigmoid(self(prompts, a, b))

    def reward(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        """r(x, y), [B], float64, whose differences `forward` returns.

        Only differences between answers to the same prompt were fitted, so r is determined up to a
        constant per prompt.

        Raises:
            InputError: the head is not bradley-terry and has no reward.
        """
        if self.kind != BRADLEY_TERRY:
            raise InputError(
                f"a preference with head={self.kind} has no scalar reward; train one with "
                "preference-train --head bradley-terry"
            )
        if not answers:
            return torch.zeros(0, dtype=torch.float64)
        rows = [(text_of(x), y) for x, y in zip(prompts, answers, strict=True)]
        unique = sorted(set(rows))
        number = {row: i for i, row in enumerate(unique)}
        with torch.no_grad():
            scores = self.scores(self.features(unique))[:, 0].double().cpu()
        return scores[[number[row] for row in rows]]

    def learns(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name; the encoder's start with "encoder."."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def save(self, folder: Path | str, report: Mapping[str, Any] | None = None) -> None:
        """Write model, encoder and a description into a folder: safetensors and JSON.

        Args:
            folder: created if it does not exist.
            report: further information to store, as JSON values.
        """
        folder = Path(folder)
        (folder / "encoder").mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        head = {
            name: p.detach().cpu().contiguous()
            for name, p in self.state_dict().items()
            if not name.startswith("encoder.")
        }
        save_file(head, folder / "head.safetensors")
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "head": self.kind,
            "hidden": self.hidden,
            "planes": self.planes,
            "encoder": self.encoder.settings(),
            "sha256": _sha256(folder),
            "report": dict(report or {}),
        }
        text = json.dumps(facts, indent=2, allow_nan=False)
        (folder / "preference.json").write_text(text + "\n", encoding="utf-8")


def load_preference(folder: Path | str, device: torch.device | str = "cpu") -> PreferenceModel:
    """Load what `save` wrote, without running code from the folder.

    Raises:
        InputError: the folder holds something else, or is damaged.
    """
    folder = Path(folder)
    facts = read_object(folder / "preference.json", "preference-train")
    if facts.get("format") != FORMAT:
        raise InputError(f"{folder}: preference.json is of no preference model")
    if facts.get("version") != VERSION:
        raise InputError(f"{folder}: version {facts.get('version')!r} is not {VERSION}")
    path = folder / "head.safetensors"
    try:
        digests, recorded = _sha256(folder), dict(facts["sha256"])
        for name in sorted(digests.keys() | recorded.keys()):
            if recorded.get(name) != digests.get(name):
                raise InputError(f"{folder / name}: damaged: another sha256 than preference.json's")
        head = load_file(path)
        encoder = saved_encoder(folder / "encoder", facts["encoder"])
        hidden, planes = int(facts["hidden"]), int(facts["planes"])
        # allocates no memory for the sizes that the file claims
        with torch.device("meta"):
            model = PreferenceModel(encoder, facts["head"], hidden=hidden, planes=planes)
    except InputError:
        raise
    except (
        AttributeError, LookupError, TypeError, ValueError, OverflowError, OSError, RuntimeError,
        SafetensorError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{folder}: damaged: {type(error).__name__}: {reason}") from None
    own = {n: p for n, p in model.state_dict().items() if not n.startswith("encoder.")}
    if {n: (p.shape, p.dtype) for n, p in head.items()} != {
        n: (p.shape, p.dtype) for n, p in own.items()
    }:
        raise InputError(f"{path}: damaged: weights of another model")
    for name, weights in head.items():
        if not bool(torch.isfinite(weights).all()):
            raise InputError(f"{path}: {name} is not finite; train it anew")
    model.load_state_dict(head, strict=False, assign=True)
    return model.requires_grad_(False).to(device)


def _sha256(folder: Path) -> dict[str, str]:
    """The hashes of all files of a model, by path relative to the folder."""
    files = [folder / "head.safetensors", *sorted((folder / "encoder").rglob("*"))]
    found = {}
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found
