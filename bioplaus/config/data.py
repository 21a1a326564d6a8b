"""The config of what is learnt, and the data set that it describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from bioplaus.config.fields import Count
from bioplaus.config.resolving import origins_of
from bioplaus.data import Dataset, load_dataset
from bioplaus.data.normalising import Normalise, normalised
from bioplaus.data.raw import Channels
from bridge.config import Config
from bridge.usercode import Provenance, load_object, names_code, running


class DataConfig(Config):
    """What is learned.

    Attributes:
        dataset: the data set: mnist, fashion-mnist, a folder, a file, or module:function.
        data_dir: the folder with the files of a named data set.
        train_size: number of training examples to use; all if not set.
        test_size: number of test examples to use; all if not set.
        range: the two values that become 0 and 1; see `bioplaus.data.scaling`.
        split: which of several data sets in a folder to use, e.g. letters of EMNIST.
        holdout: fraction of the training set to hold out as the test set, if the data have none.
        holdout_seed: seed of the choice of held-out examples; independent of the seed of the run.
        channels: position of the channels in the arrays of images, if it is not recognised.
        reader: the reader of the format: a name, or your own as module:Class; recognised if not
            set.
        normalise: how to normalise inputs with statistics of the training set; see
            `bioplaus.data.normalising`.
    """

    dataset: str = "mnist"
    data_dir: str | None = None
    train_size: Count | None = None
    test_size: Count | None = None
    range: tuple[float, float] | None = None
    split: str | None = None
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    holdout_seed: Annotated[int, Field(ge=0)] = 0
    channels: Channels | None = None
    reader: str | None = None
    normalise: Normalise = "none"

    def idle(self) -> dict[str, str]:
        if self.holdout is None:
            return {"holdout_seed": "without holdout; give it too"}
        return {}


class DataCheckConfig(Config):
    """What `data check` looks at; the keys are those of `eqprop-run`."""

    data: DataConfig = DataConfig()


def make_dataset(
    data: DataConfig, dtype: torch.dtype = torch.float32, needs_test: bool = True
) -> Dataset:
    """The data set of a run; without `needs_test`, a training set alone is one too.

    Raises:
        InputError: it cannot be read, or the user's code that reads it fails; names its place.
    """
    source, reader = (_object_of(data, name) for name in ("dataset", "reader"))
    with running(f"dataset={data.dataset!r}"):
        dataset = load_dataset(
            source,
            Path(data.data_dir) if data.data_dir else None,
            dtype,
            data.train_size,
            data.test_size,
            data.range,
            split=data.split,
            holdout=data.holdout,
            holdout_seed=data.holdout_seed,
            channels=data.channels,
            reader=reader,
            needs_test=needs_test,
        )
    return normalised(dataset, data.normalise)


def data_origins(data: DataConfig) -> tuple[Provenance, ...]:
    """Where the users' code comes from that a data set is read by."""
    named = (("dataset", data.dataset), ("reader", data.reader))
    return origins_of((what, name) for what, name in named if name)


def _object_of(data: DataConfig, name: str) -> Any:
    spec = getattr(data, name)
    return load_object(spec, name)[0] if spec and names_code(spec) else spec
