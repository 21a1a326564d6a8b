"""Save, load, copy and compare fields by their named tensors."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from bioplaus.calling import answered
from bioplaus.comparing import same
from bioplaus.errors import InputError
from bioplaus.fields.parameters import Parameters

FORMAT = "bioplaus"
"""Key of a file's metadata that holds the field's description in JSON."""


class IncompatibleKeys(NamedTuple):
    """The keys that `load_state_dict` found missing or unexpected."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Kept:
    """Mixin that saves, loads and compares objects with named parameters."""

    _parameters: Parameters
    _fixed: dict[str, Tensor] = {}  # noqa: RUF012 - of a class that fixes none
    """Fixed tensors that belong to the state, by name."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Attributes that are derived from the others and are not copied."""

    def description(self) -> dict[str, Any] | None:
        """Everything but the tensors, in JSON values; None if it contains code.

        `bioplaus.load` makes a field from it.
        """
        return None

    def layout(self) -> dict[str, Tensor]:
        """The tensors of the description, by name."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """The field's tensors by name, including the fixed ones, without copying."""
        return {**self._parameters, **self._fixed}

    @torch.no_grad()
    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy tensors into those of the field, which keep their dtype and device.

        Args:
            state_dict: tensors by name, as `state_dict` returns them.
            strict: whether to reject missing or unexpected names.

        Returns:
            `missing_keys` and `unexpected_keys`.

        Raises:
            InputError: a name is missing or unexpected, or a tensor has the wrong shape; nothing
                has changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise InputError(
                f"state_dict is {type(state_dict).__name__}; give a dict of tensors by name"
            )
        own = self.state_dict()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        wrong = [
            f"{name} is {_shape_or_type(state_dict[name])}, not {tuple(t.shape)}"
            for name, t in own.items()
            if name in state_dict and _shape_or_type(state_dict[name]) != str(tuple(t.shape))
        ]
        found = [f"missing {', '.join(missing)}"] * bool(strict and missing)
        found += [f"unexpected {', '.join(unexpected)}"] * bool(strict and unexpected)
        if found or wrong:
            raise InputError(f"state_dict does not fit {self!r}: {'; '.join([*found, *wrong])}")
        for name, tensor in own.items():
            if name in state_dict:
                tensor.copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    @answered
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tensors to a safetensors file, with the field's description as metadata.

        `bioplaus.load` reads it. It contains no code. An existing file is replaced only once the
        new one is complete.

        Args:
            path: e.g. "net.safetensors".

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(path)
        about = {
            "version": 1,
            "class": type(self).__name__,
            "repr": repr(self),
            "order": list(self._parameters),
            "description": self.description(),
        }
        tensors = {name: t.detach().clone().contiguous() for name, t in self.state_dict().items()}
        if any(t.is_complex() for t in tensors.values()):
            raise InputError(f"{path}: safetensors holds no complex numbers; save a real field")
        tensors |= {f"layout/{k}": t.clone().contiguous() for k, t in self.layout().items()}
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file(tensors, partial, metadata={FORMAT: json.dumps(about)})
            os.replace(partial, path)
        except Exception as error:  # from safetensors or from the system
            with contextlib.suppress(OSError):
                partial.unlink()
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be written ({reason}); give another path") from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self.derived}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return same(self.__getstate__(), other.__getstate__())

    def __hash__(self) -> int:
        return hash((type(self), tuple(self._parameters)))


def _shape_or_type(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
