"""The base of every config: frozen, typed, and without a setting that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

LOADING = "loading"
"""Key of the validation's context that leaves idle settings to `load_config`, which knows where
each came from."""


class Config(BaseModel):
    """A frozen set of named, typed values; refuses unknown names, NaN and infinite numbers.

    A setting that is given and has no effect under the others is refused: see `idle`.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    described_by: ClassVar[tuple[Any, ...]] = ()
    """Classes and functions whose docstrings tell what settings mean, where this one's does not."""

    length: ClassVar[str] = ""
    """The setting that says how long a run is, where it may become longer."""

    moved: ClassVar[Mapping[str, str]] = {}
    """Keys that stand elsewhere now: what they were called, and their dotted key."""

    operational: ClassVar[tuple[str, ...]] = ()
    """Settings, dotted, that no number of a run depends on: it may go on with other values."""

    def courses(self, steps: int) -> Mapping[str, Callable[[int], float]]:
        """Tell what depends on where a run of so many steps ends.

        Returns:
            By setting, as "optimizer.schedule=cosine", its value at step 0, 1, ...
        """
        return {}

    def idle(self) -> Mapping[str, str]:
        """Tell which settings have no effect under the others.

        Returns:
            Why, by key, dotted for nested configs: what goes on after "has no effect ", as
            "without tau_start; give it too".
        """
        return {}

    @model_validator(mode="after")
    def _refuse_idle(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get(LOADING):
            for key, why in self.idle().items():
                if is_given(self, key):
                    raise ValueError(f"{key} has no effect {why}")
        return self


def is_given(config: BaseModel, key: str) -> bool:
    """Whether a dotted key was given, and does not stand at its default untold."""
    first, _, rest = key.partition(".")
    inner = getattr(config, first, None)
    given = first in config.model_fields_set
    return given and (not rest or not isinstance(inner, BaseModel) or is_given(inner, rest))


def idle_keys(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give every idle setting of a config and those nested in it: key and why."""
    if isinstance(config, Config):
        for key, why in config.idle().items():
            yield prefix + key, why
    for name in type(config).model_fields:
        inner: Any = getattr(config, name)
        if isinstance(inner, BaseModel):
            yield from idle_keys(inner, f"{prefix}{name}.")
