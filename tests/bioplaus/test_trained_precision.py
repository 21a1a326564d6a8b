"""The true gradient of a trained float32 network is that of the same network in float64."""

from __future__ import annotations

import pytest
import torch

from bioplaus import LeakyField, Settling, fit
from bioplaus.costs import get_cost
from bioplaus.data import load_dataset
from bioplaus.estimators import Implicit
from tests.fields import flat


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [[512], [512, 512, 512]])
def test_after_training_float32_is_within_1e_5_of_float64(hidden):
    field = LeakyField(
        [784, *hidden, 10],
        "hard-sigmoid",
        coordinates="clipped",
        feedback_gain=0.3,
        generator=torch.Generator().manual_seed(0),
    )
    data = load_dataset("mnist", train_size=1500, test_size=500)
    history = fit(field, data, epochs=2)
    assert history.rows[-1].test_error < 25  # it has learned
    x, y = data.test.inputs[:20], torch.eye(10)[data.test.targets[:20]]
    cost = get_cost("cross-entropy")
    single = Implicit(Settling(tolerance=1e-7, free_steps=300))(field, x, y, cost)
    hidden_states = single.free.s[:, : field.output.start]
    walled = (hidden_states == 0) | (hidden_states == 1)
    assert 0.05 < float(walled.float().mean()) < 0.95  # units crowd at the walls
    tight = Settling(tolerance=1e-12, free_steps=1000)
    exact = Implicit(tight)(field.precise(), x.double(), y.double(), cost).updates
    difference = flat(single.updates).double() - flat(exact)
    assert float(difference.norm() / flat(exact).norm()) < 1e-5
