"""What a source of judges is: a prefix that names it, its settings, and how it is opened."""

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
"""Metadata of a setting that no answer depends on: a run may go on with another value of it."""


@dataclass(frozen=True)
class Opening:
    """What a source is opened with beside its settings.

    Attributes:
        device: where a model computes.
        budget: of requests that may be sent elsewhere.
    """

    device: torch.device | str = "cpu"
    budget: Budget = field(default_factory=Budget)


class AbstractSource(AbstractJudge):
    """A judge that has a name, PREFIX:REST.

    Attributes:
        prefix: what its name begins with.
        form: how its name is written, for messages.
        calls: whether it sends requests, which `Opening.budget` limits.
        Settings: a frozen dataclass of its settings; its fields become keys of the config.
    """

    prefix: ClassVar[str]
    form: ClassVar[str]
    calls: ClassVar[bool] = False
    Settings: ClassVar[type[Any]]

    @classmethod
    @abstractmethod
    def open(cls, name: str, settings: Any, opening: Opening) -> AbstractJudge:
        """Make the judge.

        Args:
            name: the whole name.
            settings: a `Settings`.
            opening: where it computes, and what it may spend.

        Raises:
            InputError: there is nothing of that name, or it does not fit the settings.
        """

    @classmethod
    def claims(cls, rest: str) -> bool:
        """Whether PREFIX:REST is of this source, and not a function of a module of that name."""
        is_function = rest.isidentifier() and Path(f"{cls.prefix}.py").is_file()
        return os.path.isdir(rest) or not is_function


def fields_of(settings: type[Any]) -> dict[str, bool]:
    """The settings of a source by name, and whether no answer depends on them."""
    return {f.name: bool(f.metadata.get("operational")) for f in dataclasses.fields(settings)}
