"""The base of every config: frozen, typed, and without settings that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

LOADING = "loading"
"""Key of the validation context that leaves idle settings to `load_config`.

`load_config` knows the origin of each."""


class Config(BaseModel):
    """A frozen set of named, typed values; refuses unknown names, NaN and infinite numbers.

    A setting that is given but has no effect under the others is refused: see `idle`.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    described_by: ClassVar[tuple[Any, ...]] = ()
    """Classes and functions whose docstrings explain settings that this docstring does not."""

    length: ClassVar[str] = ""
    """The setting that sets the length of a run, if that may change."""

    moved: ClassVar[Mapping[str, str]] = {}
    """Moved keys: the old key and the new dotted key."""

    operational: ClassVar[tuple[str, ...]] = ()
    """Dotted settings that no number of a run depends on: a resumed run may change them."""

    def courses(self, steps: int) -> Mapping[str, Callable[[int], float]]:
        """Give the values that depend on where a run of so many steps ends.

        Returns:
            By setting, such as "optimizer.schedule=cosine", its value at step 0, 1, ...
        """
        return {}

    def idle(self) -> Mapping[str, str]:
        """Say which settings have no effect under the others.

        Returns:
            The reason by key, dotted for nested configs: it continues "has no effect ", as in
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
    """Whether a dotted key was given, rather than left at its default."""
    first, _, rest = key.partition(".")
    inner = getattr(config, first, None)
    given = first in config.model_fields_set
    return given and (not rest or not isinstance(inner, BaseModel) or is_given(inner, rest))


def idle_keys(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give every idle setting of a config and its nested configs: key and reason."""
    if isinstance(config, Config):
        for key, why in config.idle().items():
            yield prefix + key, why
    for name in type(config).model_fields:
        inner: Any = getattr(config, name)
        if isinstance(inner, BaseModel):
            yield from idle_keys(inner, f"{prefix}{name}.")
