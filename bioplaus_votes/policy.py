"""A network as a policy: its free state defines a distribution over answers."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.fields import VectorField
from bioplaus.phases import Settling
from bridge.errors import InputError

SETTLING = Settling(tolerance=1e-6, free_steps=1000, verify=False)
"""Default settings of its free phases."""


class Policy:
    """pi(y | x) = softmax(z)_y, z the outputs of s* with mu(x, s*) = 0.

    Examples:
        >>> from bioplaus import LeakyField
        >>> policy = Policy(LeakyField([4, 6, 3], generator=torch.Generator().manual_seed(0)))
        >>> x = torch.rand(2, 4, generator=torch.Generator().manual_seed(1))
        >>> policy.log_prob(x).exp().sum(1)
        tensor([1., 1.])
        >>> policy.sample(x, seed=0).shape
        torch.Size([2])
    """

    def __init__(self, field: VectorField, *, settling: Settling | None = None) -> None:
        """Take the network and the settings of its free phase.

        Raises:
            InputError: it is not a field.
        """
        if not isinstance(field, VectorField):
            raise InputError(f"field is {type(field).__name__}; give a bioplaus field")
        self.field, self.settling = field, settling or SETTLING

    def log_prob(self, x: object, y: object = None) -> Tensor:
        """log pi(. | x), [B, K]; for given answers y [B], log pi(y | x), [B].

        Args:
            x: inputs, one per row.
            y: answers, integers 0..K-1.

        Raises:
            InputError: x is not a valid input of the field, or y holds invalid answers.
        """
        found = torch.log_softmax(self.field.predict(x, settling=self.settling), -1)
        if y is None:
            return found
        y = torch.as_tensor(y, device=found.device)
        k = found.shape[1]
        if y.dtype.is_floating_point or y.shape != found.shape[:1]:
            raise InputError(
                f"y has shape {list(y.shape)}; give a whole number for each of {len(found)} rows"
            )
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < k:
            raise InputError(
                f"y has answers from {int(y.min())} to {int(y.max())}; they are 0 to {k - 1}"
            )
        return found.gather(1, y.long()[:, None])[:, 0]

    def sample(
        self,
        x: object,
        n: int | None = None,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw answers y ~ pi(. | x), [B]; if n is given, [B, n].

        Args:
            x: inputs, one per row.
            n: number of answers per row.
            seed: seed of the draw; without a seed or generator, torch's global generator is used.
            generator: generator of the draw.

        Raises:
            InputError: x is not a valid input of the field, or n is below 1.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise InputError(f"n={n!r} must be a whole number of at least 1")
        pi = self.log_prob(x).exp()
        if seed is not None:
            generator = torch.Generator(pi.device).manual_seed(seed)
        drawn = torch.multinomial(pi, n or 1, replacement=True, generator=generator)
        return drawn if n is not None else drawn[:, 0]

    def __repr__(self) -> str:
        return f"Policy({self.field!r})"
