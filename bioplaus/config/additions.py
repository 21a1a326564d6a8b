"""What a training may have beside its rule: contraction, augmentation, averages, fewer digits."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bioplaus.config.fields import Count, Positive
from bioplaus.contraction import Contraction
from bioplaus.data.augment import Augment
from bioplaus.errors import InputError
from bridge.config import Config

Share = Annotated[float, Field(gt=0, lt=1)]
Pixels = Annotated[int, Field(ge=0)]
Products = Literal["full", "bfloat16"]


class ContractionConfig(Config):
    """What keeps the phases settling while weights learn; see `bioplaus.contraction`."""

    described_by: ClassVar[tuple[Any, ...]] = (Contraction,)

    limit: Positive | None = None
    residual: Share | None = None
    every: Count = 20
    shrink: Share = 0.97
    rows: Count = 16
    products: Count = 12
    cap: Positive | None = None
    standardise: bool = False

    def idle(self) -> dict[str, str]:
        if self.limit is None and self.residual is None:
            why = "without limit or residual; give one of them"
            return dict.fromkeys(("every", "shrink", "rows", "products"), why)
        if self.limit is not None and self.residual is not None:
            return {"limit": "with residual, from which it follows; leave out one"}
        return {}

    def made(self) -> Contraction:
        """The plain object."""
        return Contraction(**self.model_dump())


class AugmentConfig(Config):
    """How pictures are changed before an update; see `bioplaus.data.augment`."""

    described_by: ClassVar[tuple[Any, ...]] = (Augment,)

    mirror: bool = False
    shift: Pixels = 0
    cutout: Pixels = 0

    def made(self) -> Augment:
        """The plain object."""
        return Augment(**self.model_dump())


def addition_settings(
    contraction: Contraction | None, augment: Augment | None, **others: object
) -> dict[str, Any]:
    """What `fit` was given of these, by key of `LoopConfig`; nothing of what it was not.

    Raises:
        InputError: something else was given.
    """
    found = {name: value for name, value in others.items() if value is not None}
    for name, given, kind in (
        ("contraction", contraction, Contraction),
        ("augment", augment, Augment),
    ):
        if given is None:
            continue
        if not isinstance(given, kind):
            raise InputError(
                f"{name} is {type(given).__name__}; give a bioplaus.{kind.__name__}, e.g. "
                f"{_EXAMPLES[name]}"
            )
        found[name] = {
            f.name: getattr(given, f.name)
            for f in dataclasses.fields(given)
            if getattr(given, f.name) != f.default
        }
    return found


_EXAMPLES = {"contraction": "Contraction(limit=0.8)", "augment": "Augment(mirror=True, shift=4)"}
