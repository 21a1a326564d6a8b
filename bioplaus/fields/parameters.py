"""The tensors of a field by name, which may be changed in place but never replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from bioplaus.errors import InputError


class Parameters(dict[str, Tensor]):
    """name -> tensor, fixed at construction because a field stores views of its tensors.

    Raises:
        InputError: an entry is replaced, added or removed.
    """

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InputError(
            "the parameters of a field cannot be replaced: change a tensor in place "
            '(field.parameters["bias.1"].copy_(...)), or make a field over others '
            "(field.with_parameters({...}))"
        )

    if not TYPE_CHECKING:  # type checkers would require the signatures of dict's methods
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse

    def addresses(self) -> list[int] | None:
        """The data addresses of the tensors; None if `torch.func` traces them."""
        try:
            return [p.data_ptr() for p in self.values()]
        except RuntimeError:
            return None

    def __reduce__(self) -> tuple[type[Parameters], tuple[dict[str, Tensor]]]:
        return Parameters, (dict(self),)
