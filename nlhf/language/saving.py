"""Save policies: what `save_pretrained` writes, and a model card."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlhf.errors import InputError
from nlhf.language.loading import SMOLLM2, TINY, quiet
from nlhf.language.merging import merged
from nlhf.language.policy import Policy


@dataclass(frozen=True)
class Card:
    """What a model card says about the training of a model."""

    learned: str
    tags: tuple[str, ...]
    source: str = ""


PREFERENCES = Card(
    "learned from pairwise preferences by `nash-md --model`",
    ("nash-md", "preference-learning"),
    "Munos et al. 2023, Nash learning from human feedback (arXiv 2312.00886)",
)
EXAMPLES = Card("learned from examples by `warm-start`", ("sft",))


def save_policy(
    policy: Policy,
    folder: Path,
    about: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
    *,
    card: Card = PREFERENCES,
    merge: bool = False,
    say: Callable[[str], object] = warnings.warn,
) -> None:
    """Save the policy in a form that `AutoModelForCausalLM` or peft, and `load_policy`, can read.

    Args:
        policy: an adapter is saved as an adapter with the name of its base. If the base is a
            folder, its absolute path is stored. An adapter on a tiny model, which cannot be found
            by name, is merged.
        folder: the destination.
        about: settings that the card lists.
        weights: the full weights if the model holds only a shard; see `parallel.whole_weights`.
        card: how the model was trained.
        merge: merge an adapter into the weights of its base and save a whole model. If that is
            loaded for further training, it is its own reference. An adapter that cannot be merged
            is saved as it is.
        say: receives one line if an adapter was to be merged and could not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = policy.model
    settings: dict[str, Any] = {}
    merge = policy.has_adapter and (merge or policy.name.startswith(TINY))
    if merge:
        try:
            model = merged(model)
        except InputError as error:
            if policy.name.startswith(TINY):
                raise
            say(f"{error}; it is saved as an adapter")
            merge = False
    if policy.has_adapter and not merge:
        settings["save_embedding_layers"] = False
        for each in model.peft_config.values():
            each.base_model_name_or_path = _found_from_everywhere(each.base_model_name_or_path)
    if weights is not None:
        settings["state_dict"] = dict(weights)
    with quiet():
        model.save_pretrained(folder, **settings)
        policy.tokenizer.save_pretrained(folder)
    adapter = policy.has_adapter and not merge
    (folder / "README.md").write_text(_text(policy.name, adapter, about, card), "utf-8")


def _found_from_everywhere(base: str) -> str:
    is_folder = base != SMOLLM2 and os.path.isdir(base)
    return os.path.abspath(base) if is_folder else base


def _text(name: str, adapter: bool, about: Mapping[str, Any], card: Card) -> str:
    kind = "LoRA adapter" if adapter else "model"
    head = ["---", f"base_model: {json.dumps(name)}"]
    head += [f"library_name: {'peft' if adapter else 'transformers'}"]
    head += [f"tags: [{', '.join(card.tags)}]", "---", ""]
    lines = [f"# {about.get('algorithm', 'nash-md')} on {name}", ""]
    lines += [f"A {kind} {card.learned} of bioplaus.", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {key} | `{value}` |" for key, value in about.items()]
    method = ["", f"Method: {card.source}."] if card.source else []
    return "\n".join([*head, *lines, *method, ""])
