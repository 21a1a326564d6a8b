"""Data to learn from, in the forms that people have."""

from bioplaus.data.dataset import Dataset, Examples, batches
from bioplaus.data.loading import load_dataset

__all__ = ["Dataset", "Examples", "batches", "load_dataset"]
