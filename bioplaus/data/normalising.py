"""Normalise inputs to mean zero with statistics of the training set, per channel or jointly."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from bioplaus.data.dataset import Dataset
from bioplaus.data.examples import Examples
from bioplaus.errors import InputError

Normalise = Literal["none", "standardise", "whiten"]
"""How inputs are normalised."""
FLOOR = 1e-2
"""Regularises whitening: added to the variance of each direction, in units of their mean."""
AT_ONCE = 5000
"""Number of inputs per batch."""


@torch.no_grad()
def normalised(dataset: Dataset, how: Normalise) -> Dataset:
    """Normalise the training and test inputs with statistics of the training inputs.

    standardise: (x - m_c) / sd_c, with the mean and standard deviation of each channel (or of all
    values if the inputs are not images). whiten: E (L + f)^(-1/2) E^T (x - m), with the
    eigenvectors E and eigenvalues L of the covariance of the pixels (ZCA), and f = FLOOR times the
    mean of L.

    Raises:
        InputError: all training inputs are equal.

    Source: whitening: Krizhevsky 2009, Learning Multiple Layers of Features, appendix A.
    """
    if how == "none":
        return dataset
    move = _standardised(dataset) if how == "standardise" else _whitened(dataset)
    parts = {}
    for name in ("train", "test"):
        part: Examples = getattr(dataset, name)
        if len(part):
            inputs = torch.cat([move(some) for some in part.inputs.split(AT_ONCE)])
            part = Examples(inputs, part.targets)
        parts[name] = part
    return dataclasses.replace(dataset, **parts)


def _standardised(dataset: Dataset):
    x, picture = dataset.train.inputs, dataset.image_shape
    channels = 1 if picture is None else picture[0]
    by_channel = x.view(len(x), channels, -1)
    mean = by_channel.double().mean((0, 2), keepdim=True).to(x)
    sd = by_channel.std((0, 2), keepdim=True)
    _require_spread(dataset, sd)
    return lambda some: ((some.view(len(some), channels, -1) - mean) / sd).flatten(1)


def _whitened(dataset: Dataset):
    x = dataset.train.inputs
    mean = x.double().mean(0)
    covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for some in x.split(AT_ONCE):
        centred = some.double() - mean
        covariance.addmm_(centred.T, centred)
    values, vectors = torch.linalg.eigh(covariance / max(1, len(x) - 1))
    _require_spread(dataset, values.clamp_min(0).max())
    scale = (values.clamp_min(0) + FLOOR * values.mean()).rsqrt()
    matrix = (vectors * scale) @ vectors.T
    return lambda some: ((some.double() - mean) @ matrix).to(x)


def _require_spread(dataset: Dataset, sd: Tensor) -> None:
    if not bool((sd > 0).all()):
        raise InputError(
            f"{dataset.name}: normalise divides by how far inputs differ, and those of a channel "
            "are all equal; leave it out"
        )
