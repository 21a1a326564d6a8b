"""Optional parts of a run: augmentation, lower precision, averaging, contraction."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from bioplaus.config import LoopConfig
from bioplaus.contraction import Act, Controller
from bioplaus.data import Dataset
from bioplaus.errors import InputError
from bioplaus.fields import VectorField
from bioplaus.phases import Settling
from bridge.averaging import Average


class Additions:
    """The parts of a run that its config asks for; without them, each method does nothing.

    Attributes:
        last_inputs: inputs of the last step; an objective that makes its own stores them here.
    """

    def __init__(
        self,
        config: LoopConfig,
        dataset: Dataset,
        field: VectorField,
        settling: Settling,
        augmenting: torch.Generator | None,
        *,
        has_targets: bool,
    ) -> None:
        """Create the parts.

        Args:
            config: configuration of the run, which selects the parts.
            dataset: the data as the field takes it.
            field: the field that learns.
            settling: how its phases settle.
            augmenting: source of random numbers for augmentation.
            has_targets: whether the outputs have targets.

        Raises:
            InputError: a part cannot be applied to the data or the field.
        """
        self.config, self.dataset, self.field = config, dataset, field
        self.augment, self.augmenting = config.augment.made(), augmenting
        contraction = config.contraction.made()
        self.controller = None
        if contraction.acts:
            self.controller = Controller(contraction, field, settling)
        self.average = None
        if config.average is not None:
            self.average = Average(field.parameters, config.average)
        self._of_pictures("augment", self.augment.acts)
        self._of_pictures("test_mirrored", config.test_mirrored)
        for what, chosen in (
            ("label_smoothing", config.label_smoothing),
            ("test_mirrored", config.test_mirrored),
            ("micro_shards", config.micro_shards > 1),
        ):
            if chosen and not has_targets:
                raise InputError(f"{what} works with targets, and votes are none; leave it out")
        if config.label_smoothing and not dataset.has_labels:
            raise InputError(
                "label_smoothing is about classes, and the targets of this data set are vectors; "
                "leave it out"
            )
        if config.products != "full" and field.dtype != torch.float32:
            raise InputError(
                f"products={config.products} is of float32, not of {field.dtype}; leave one out"
            )
        self._updates, self._radius, self._scale = 0, math.nan, 1.0
        self.last_inputs = dataset.train.inputs[:0]

    def _of_pictures(self, what: str, chosen: bool) -> None:
        if chosen and self.dataset.image_shape is None:
            raise InputError(
                f"{what} is about pictures, and inputs of shape {self.dataset.shape} are none; "
                "leave it out"
            )

    def inputs(self, rows: Tensor) -> Tensor:
        """The inputs of some training examples, augmented for a step."""
        x = self.dataset.train.inputs[rows]
        if self.augment.acts:
            assert self.augmenting is not None
            assert self.dataset.image_shape is not None
            pictures = x.view(len(x), *self.dataset.image_shape)
            x = self.augment(pictures, self.augmenting).view(x.shape)
        self.last_inputs = x
        return x

    def targets(self, rows: Tensor) -> Tensor:
        """The targets of some training examples, with labels smoothed."""
        y = self.dataset.vectors(self.dataset.train.targets[rows], self.field.dtype)
        if share := self.config.label_smoothing:
            y = torch.lerp(y, torch.full_like(y, 1 / y.shape[1]), share)
        return y

    def computing(self) -> contextlib.AbstractContextManager[object]:
        """Compute products in the configured precision within the block."""
        if self.config.products == "full":
            return contextlib.nullcontext()
        return torch.autocast(self.field.device.type, torch.bfloat16)

    def after_update(self) -> Act | None:
        """Apply the constraints to the weights, and add them to their average."""
        act = None
        if self.controller is not None:
            self._updates += 1
            self.controller.constrain()
            if self.controller.settings.looks and self._updates >= self.controller.due:
                radius, act = self.controller.look(self._updates, self.last_inputs)
                self._radius = radius if math.isnan(self._radius) else max(self._radius, radius)
                self._scale *= 1.0 if act is None else act.factor
        if self.average:
            self.average.update()
        return act

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Use the weights for testing (the average, if there is one) within the block."""
        with self.average.swapped() if self.average else contextlib.nullcontext():
            yield

    def end_epoch(self) -> dict[str, float]:
        """Return the parts' measures of the epoch, and start the next one."""
        if self.controller is None or not self.controller.settings.looks:
            return {}
        found = {"loop_radius": self._radius, "feedback_scale": self._scale}
        self._radius = math.nan
        return found

    def end(self) -> None:
        """Set the field to the final weights."""
        if self.average:
            self.average.assign()

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        found: dict[str, Any] = {}
        if self.controller is not None:
            at = {"updates": self._updates, "radius": self._radius, "scale": self._scale}
            found["contraction"] = at | {"due": self.controller.due, "gap": self.controller.gap}
        if self.average:
            found["average"] = self.average.state_dict()
        return found

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restore the state of a snapshot."""
        if self.controller is not None:
            at = saved["contraction"]
            self._updates, self._radius = int(at["updates"]), float(at["radius"])
            self._scale = float(at["scale"])
            # earlier versions measured at fixed updates
            self.controller.due = int(at.get("due", self._updates + 1))
            self.controller.gap = int(at.get("gap", 1))
        if self.average:
            self.average.load_state_dict(saved["average"])
