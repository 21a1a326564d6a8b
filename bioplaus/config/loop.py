"""The settings of every training loop over a field, from the command line and from Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from bioplaus.config.additions import AugmentConfig, ContractionConfig, Products, Share
from bioplaus.config.fields import Count
from bridge.config import Config


class LoopConfig(Config):
    """How long, in what steps, and what is looked at on the way.

    Attributes:
        epochs: passes over the training examples.
        batch_size: number of examples per update.
        micro_shards: number of parts into which a batch is split. They are estimated one after
            another and added in a fixed order, so that a batch may be larger than memory allows.
            Any number of processes that divides it gives the same result.
        evaluation_batch: number of test examples evaluated at a time.
        seed: seed of the weights, the order of the examples and all other random numbers.
        log_every: number of steps between rows of the log.
        check_gradients_every: number of steps between gradient checks, which compare the update
            with the true gradient; 0 means never.
        check_rows: number of test examples used for gradient checks, and for the stability check
            after each epoch.
        label_smoothing: fraction of the target that is spread evenly over all classes.
        average: decay of a running average of the weights, which is used for testing and saved;
            none if not set.
        test_mirrored: whether to add the outputs for an image and its mirror image when testing.
        products: precision of the products in the phases; weights, states and updates keep full
            precision.
    """

    length: ClassVar[str] = "epochs"

    epochs: Count = 10
    batch_size: Count = 50
    micro_shards: Count = 1
    evaluation_batch: Count = 500
    seed: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 1
    check_gradients_every: Annotated[int, Field(ge=0)] = 0
    check_rows: Count = 20
    augment: AugmentConfig = AugmentConfig()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average: Share | None = None
    test_mirrored: bool = False
    products: Products = "full"
    contraction: ContractionConfig = ContractionConfig()

    def as_written(self, settings: Mapping[str, float | str]) -> str:
        """Settings by key as a user gives them, for advice."""
        return " ".join(f"--set {key}={written(value)}" for key, value in settings.items())


def written(value: float | str) -> str:
    """A number as it is written: no more digits than it needs."""
    return f"{value:g}" if isinstance(value, float) else str(value)
