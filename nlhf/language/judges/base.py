"""The interface of a source of judges: its prefix, its settings, and how to open it."""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from nlhf.language.judging import AbstractJudge
from nlhf.language.remote.client import Budget

OPERATIONAL = {"operational": True}
"""Metadata key of settings that do not affect answers: a resumed run may change them."""


@dataclass(frozen=True)
class Opening:
    """What opening a source needs besides its settings.

    Attributes:
        device: where a model computes.
        budget: budget of requests to other machines.
    """

    device: torch.device | str = "cpu"
    budget: Budget = field(default_factory=Budget)


class AbstractSource(AbstractJudge):
    """A judge with a name of the form PREFIX:REST.

    Attributes:
        prefix: the prefix of its name.
        form: the form of its name, for messages.
        calls: whether it sends requests, which `Opening.budget` limits.
        Settings: a frozen dataclass of its settings; the fields become keys of the config.
    """

    prefix: ClassVar[str]
    form: ClassVar[str]
    calls: ClassVar[bool] = False
    Settings: ClassVar[type[Any]]

    @classmethod
    @abstractmethod
    def open(cls, name: str, settings: Any, opening: Opening) -> AbstractJudge:
        """Create the judge.

        Args:
            name: the full name.
            settings: an instance of `Settings`.
            opening: the device and the request budget.

        Raises:
            InputError: the name does not exist, or it does not fit the settings.
        """

    @classmethod
    def claims(cls, rest: str) -> bool:
        """Whether PREFIX:REST means this source, not a function in a module of that name."""
        is_function = rest.isidentifier() and Path(f"{cls.prefix}.py").is_file()
        return os.path.isdir(rest) or not is_function


def fields_of(settings: type[Any]) -> dict[str, bool]:
    """The names of a source's settings, and for each whether no answer depends on it."""
    return {f.name: bool(f.metadata.get("operational")) for f in dataclasses.fields(settings)}
