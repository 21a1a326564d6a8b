"""A judge loaded from a folder that `preference-train` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judging import AbstractJudge
from nlhf.language.preference_models import BRADLEY_TERRY, PreferenceModel, load_preference
from nlhf.language.prompts import Prompt


class ModelJudge(AbstractJudge):
    """A learned preference model."""

    antisymmetric = True

    def __init__(self, model: PreferenceModel, name: str) -> None:
        """Take the model and its name for messages."""
        self.model, self.name = model, name
        self.transitive = model.kind == BRADLEY_TERRY

    @classmethod
    def open(cls, folder: str, device: torch.device | str) -> ModelJudge:
        """Load the model from a folder.

        Raises:
            InputError: the folder holds something else, or is damaged.
        """
        place = Path(folder)
        if not (place / "preference.json").exists() and (place / "config.json").exists():
            raise InputError(
                f"preference={folder!r} is a model that save_pretrained wrote; write reward:"
                f"{folder} for a reward model, pair:{folder} for a classifier of pairs"
            )
        return cls(load_preference(folder, device), folder)

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """The model's probabilities, [B], float64."""
        return self.model.probabilities(prompts, a, b)

    def facts(self) -> dict[str, Any]:
        """The facts, including the model's head."""
        return {**super().facts(), "kind": "preference model", "head": self.model.kind}
