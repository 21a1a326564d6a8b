"""asym-ep with learned transposes: separate weights that are trained with noise.

    --field experiments.cifar10.mirror:mirrored --estimator experiments.cifar10.mirror:MirroredEP

Each connection except those from the input has a second weight Q besides its W. In the nudged phase
deviations go back through Q^T instead of W^T. After each update of W, a few rows of noise z are fed
into the layers below a connection, and Q is moved so that Q z gets closer to W z. A unit thus
learns W only from its response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators import AsymEP
from bioplaus.fields import LayeredField, VectorField
from bioplaus.fields.connections.base import units
from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.convolutional import convolutional
from bioplaus.fields.parameters import Parameters
from bioplaus.nudging import AbstractDeviations, Nudge, Symmetrised

PREFIX, STEPS = "mirror.", "mirror.steps"
ROWS = 16
"""Rows of noise per update."""


class MirroredField(LayeredField):
    """A layered field whose parameters include a second weight Q for each connection.

    Q is not part of the dynamics ds/dt = mu(x, s). No rule updates it; `constrain` does.
    """

    derived = (*LayeredField.derived, "mirrors")

    def __init__(self, like: LayeredField, generator: torch.Generator | None) -> None:
        """Draw Q from the distribution of W, independently of it.

        Raises:
            InputError: a connection is not linear.
        """
        bent = next((c.name for c in like.connections if not c.linear), None)
        if bent is not None:
            raise InputError(f"the transpose of {bent} is not one weight; use average pooling")
        super().__init__(
            like.shapes[0],
            like.specs,
            like.connections,
            coordinates=like.coordinates,
            weights=dict(like.parameters),
            dtype=like.dtype,
            device=like.device,
        )
        own = dict(self.parameters)
        for c in self.connections:
            if c.source:
                shape = c.weight_shape(self.shapes[c.source], self.shapes[c.target])
                own[PREFIX + c.name] = c.draw(shape, generator, like.dtype).to(like.device)
        own[STEPS] = torch.zeros(1, dtype=like.dtype, device=like.device)
        self._wire(Parameters(own))

    def _wire(self, parameters: Mapping[str, Tensor]) -> None:
        super()._wire(parameters)
        self.mirrors = Wires(
            [
                [
                    (j, wire.with_weight(self.parameters[PREFIX + wire.connection.name]))
                    for j, wire in into
                    if j >= 0 and PREFIX + wire.connection.name in self.parameters
                ]
                for into in self._wires.into
            ]
        )

    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """(dmu/dtheta)^T delta, which is zero for Q."""
        updates = super().local_update(x, s, delta, out)
        for name, update in updates.items():
            if name.startswith(PREFIX):
                update.zero_()
        return updates

    @torch.no_grad()
    def constrain(self) -> None:
        """Move each Q along the gradient of ||W z - Q z||^2, with noise z, to the minimum."""
        super().constrain()
        steps = self.parameters.get(STEPS)
        if steps is None:  # for fields that are built on the way
            return
        steps.add_(1)
        g = torch.Generator().manual_seed(int(steps))
        for true, learned in zip(self._wires.within, self.mirrors.within, strict=True):
            for (_, w), (_, q) in zip(true, learned, strict=True):
                z = torch.randn(ROWS, units(w.source), generator=g, dtype=self.dtype)
                z = z.to(self.device)
                slope = q.update(z, w.add(None, z) - q.add(None, z))
                along = q.with_weight(slope).add(None, z)
                size = along.square().sum()
                if float(size) > 0:
                    q.weight.add_(slope * (slope.square().sum() / size))


class MirroredSymmetrised(Symmetrised):
    """The nudged phase of asym-ep in which deviations go back through Q^T."""

    @property
    def transposes(self) -> Wires:
        assert isinstance(self.field, MirroredField)
        return self.field.mirrors


@dataclass(frozen=True)
class MirroredEP(AsymEP):
    """asym-ep with Q^T instead of W^T: exact if Q = W."""

    name = "asym-ep with learned transposes"
    rank = 99

    def unfit(self, field: VectorField) -> str | None:
        if isinstance(field, MirroredField):
            return None
        return f"needs a field with learned transposes, not {field!r}; use {__name__}:mirrored"

    def dynamics(
        self, field: VectorField, drive: Tensor, nudge: Nudge, free: Tensor
    ) -> AbstractDeviations:
        assert isinstance(field, MirroredField)
        return MirroredSymmetrised(field, drive, nudge, free)


def mirrored(
    input: tuple[int, ...],
    n_output: int,
    channels: tuple[int, ...] = (64, 128, 256, 256),
    *,
    unpooled: tuple[int, ...] = (),
    skips: tuple[int, ...] = (),
    activation: str = "relu",
    gain: float = 1.4,
    feedback_gain: float = 0.1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> MirroredField:
    """The network of `bioplaus.fields.convolutional`, with learned transposes."""
    settings: dict[str, Any] = {"unpooled": unpooled, "skips": skips, "gain": gain}
    settings |= {
        "activation": activation,
        "feedback_gain": feedback_gain,
        "dtype": dtype,
        "device": device,
    }
    net = convolutional(input, n_output, channels, generator=generator, **settings)
    return MirroredField(net, generator)


def likeness(field: MirroredField) -> dict[str, float]:
    """The cosine of each Q to its W."""
    found = {}
    for name, q in field.parameters.items():
        if name.startswith(PREFIX) and name != STEPS:
            w = field.parameters[name.removeprefix(PREFIX)]
            found[name] = float((w * q).sum() / (w.norm() * q.norm()))
    return found
