"""The config of what is learnt, and the data set that it describes."""

from __future__ import annotations

from pathlib import Path

import torch

from bioplaus.config.fields import Count
from bioplaus.data import Dataset, load_dataset
from bridge.config import Config


class DataConfig(Config):
    """What is learnt; `range` is the values that become 0 and 1, see `bioplaus.data.scaling`."""

    dataset: str = "mnist"
    data_dir: str | None = None
    train_size: Count | None = None
    test_size: Count | None = None
    range: tuple[float, float] | None = None


def make_dataset(data: DataConfig, dtype: torch.dtype = torch.float32) -> Dataset:
    """The data set of a run.

    Raises:
        InputError: it cannot be read.
    """
    return load_dataset(
        data.dataset,
        Path(data.data_dir) if data.data_dir else None,
        dtype,
        data.train_size,
        data.test_size,
        data.range,
    )
