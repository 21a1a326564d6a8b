"""A judge given by tables of probabilities, one per context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bioplaus_votes.judges.base import AbstractTableJudge, require_fair, symmetrised
from bridge.errors import InputError
from nlhf.preferences.base import Preferences


class TableJudge(AbstractTableJudge):
    """P(y > y' | context), given explicitly.

    Examples:
        >>> judge = TableJudge(torch.tensor([[[0.5, 0.9], [0.1, 0.5]]]))
        >>> judge.vote(torch.tensor([0]), torch.zeros(1, 1), torch.tensor([[0]]),
        ...            torch.tensor([[1]]), torch.Generator().manual_seed(0)).shape
        torch.Size([1, 1])
    """

    def __init__(
        self,
        P: Tensor,
        *,
        name: str = "table",
        answers: Sequence[str] = (),
        contexts: Sequence[str] = (),
        symmetrise: bool = False,
    ) -> None:
        """Take the tables.

        Args:
            P: [C, K, K], or [K, K] for one context.
            name: name in messages and logs.
            answers, contexts: their names; numbers by default.
            symmetrise: use (P + 1 - P^T) / 2 of a table that is not antisymmetric.

        Raises:
            InputError: see `require_fair`; or there are too many or too few names.
        """
        P = torch.as_tensor(P).double()
        P = P[None] if P.ndim == 2 else P
        if symmetrise and P.ndim == 3 and P.shape[-1] == P.shape[-2]:
            P = symmetrised(P)
        require_fair(P, f"judge {name}", contexts)
        self.P, self.name = symmetrised(P), name
        c, k = P.shape[:2]
        self.answers = tuple(answers) or tuple(map(str, range(k)))
        self.contexts = tuple(contexts) or tuple(map(str, range(c)))
        if len(self.answers) != k or len(self.contexts) != c:
            raise InputError(
                f"judge {name}: {len(self.answers)} answers and {len(self.contexts)} contexts are "
                f"named, and the table has {k} and {c}"
            )
        self._held: Tensor | None = None

    @classmethod
    def of(cls, preferences: Preferences) -> TableJudge:
        """Use the games of `nlhf`, one per context."""
        return cls(
            preferences.P,
            name=preferences.name,
            answers=preferences.actions,
            contexts=preferences.contexts,
        )

    def table(self, context: Tensor, x: Tensor) -> Tensor:
        held = self._held
        if held is None or held.dtype != x.dtype or held.device != context.device:
            held = self._held = self.P.to(device=context.device, dtype=x.dtype)
        return held[context]


def cyclic(
    contexts: int = 10,
    *,
    margins: tuple[float, float, float] = (0.4, 0.2, 0.1),
    above: float = 0.4,
) -> TableJudge:
    """In context c, answers c, c + 1, c + 2 beat all others, and each other in a cycle.

    P(c > c+1) = 1/2 + margins[0], P(c+1 > c+2) = 1/2 + margins[1], P(c+2 > c) = 1/2 + margins[2].
    Each of the three is preferred to any other answer with 1/2 + above; all other pairs are even.
    There are as many answers as contexts, numbered cyclically. No answer is best: every pure policy
    loses at least min(margins).

    Raises:
        InputError: fewer than three contexts, or a margin outside (0, 1/2].
    """
    if contexts < 3:
        raise InputError(f"judge cyclic: {contexts} classes; its cycle needs three or more")
    for value in (*margins, above):
        if not 0 < value <= 0.5:
            raise InputError(f"judge cyclic: margin {value:g} must lie in (0, 0.5]")
    A = torch.zeros(contexts, contexts, contexts, dtype=torch.float64)
    for c in range(contexts):
        top = [(c + i) % contexts for i in range(3)]
        rest = [y for y in range(contexts) if y not in top]
        for i, y in enumerate(top):
            A[c, y, rest] = above
            A[c, rest, y] = -above
            A[c, y, top[(i + 1) % 3]] = margins[i]
            A[c, top[(i + 1) % 3], y] = -margins[i]
    return TableJudge(A + 0.5, name="cyclic")
