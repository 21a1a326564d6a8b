"""Policies on disk: what `save_pretrained` writes, and a model card."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlhf.language.loading import TINY, quiet
from nlhf.language.policy import Policy


def save_policy(
    policy: Policy,
    folder: Path,
    about: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
) -> None:
    """Write the policy so that `AutoModelForCausalLM`, or peft, and `load_policy` read it.

    Args:
        policy: an adapter is saved as one, beside the name of its base; on a tiny model, which
            has no name to find it by, it is merged.
        folder: where to.
        about: the settings that the card lists.
        weights: the model's, where it holds only a part of them; see `parallel.whole_weights`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = policy.model
    settings: dict[str, Any] = {}
    if policy.has_adapter and policy.name.startswith(TINY):
        model = copy.deepcopy(model).merge_and_unload()
    elif policy.has_adapter:
        settings["save_embedding_layers"] = False
    if weights is not None:
        settings["state_dict"] = dict(weights)
    with quiet():
        model.save_pretrained(folder, **settings)
        policy.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_card(policy, about), "utf-8")


def _card(policy: Policy, about: Mapping[str, Any]) -> str:
    adapter = policy.has_adapter and not policy.name.startswith(TINY)
    kind = "LoRA adapter" if adapter else "model"
    head = ["---", f"base_model: {json.dumps(policy.name)}"]
    head += [f"library_name: {'peft' if adapter else 'transformers'}"]
    head += ["tags: [nash-md, preference-learning]", "---", ""]
    lines = [f"# {about.get('algorithm', 'nash-md')} on {policy.name}", ""]
    lines += [f"A {kind} learnt from pairwise preferences by `nash-md --model` of bioplaus.", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {name} | `{value}` |" for name, value in about.items()]
    source = "Munos et al. 2023, Nash learning from human feedback (arXiv 2312.00886)."
    return "\n".join([*head, *lines, "", f"Method: {source}", ""])
