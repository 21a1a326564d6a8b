"""Data for training, in the formats that people use."""

from bioplaus.data.augment import Augment
from bioplaus.data.dataset import Dataset
from bioplaus.data.examples import Examples, batches
from bioplaus.data.loading import load_dataset
from bioplaus.data.raw import Part, Raw
from bioplaus.data.reader import AbstractReader

__all__ = [
    "AbstractReader",
    "Augment",
    "Dataset",
    "Examples",
    "Part",
    "Raw",
    "batches",
    "load_dataset",
]
