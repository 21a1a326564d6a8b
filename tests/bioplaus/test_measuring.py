"""What a run measures, on batches where each figure is known."""

from dataclasses import replace

import pytest
import torch

from bioplaus import measuring
from bioplaus.costs import get_cost
from bioplaus.data import Examples
from bioplaus.estimators import estimate_gradient
from bioplaus.measuring import Tally, alignments, measure
from bioplaus.phases import Settling
from bioplaus.solvers import Euler
from tests.fields import TIGHT, problem

COST = get_cost("squared-error")


@pytest.fixture
def measured():
    """A problem, its estimate, and labels of which one in four is wrong."""
    p = problem()
    estimate = estimate_gradient(p.field, p.x, p.y, settling=TIGHT, beta=0.1)
    guess = estimate.free.s[:, p.field.output].argmax(1)
    guess[2] = (guess[2] + 1) % 3
    return p, estimate, guess


def test_one_wrong_of_four_is_25_per_cent(measured):
    p, estimate, labels = measured
    y = torch.nn.functional.one_hot(labels, 3).double()
    found = measure(p.field, COST, estimate, y)
    assert found["train_error"] == 25.0
    outputs = estimate.free.s[:, p.field.output]
    assert found["cost"] == pytest.approx(float((outputs - y).square().sum() / 2 / 4))
    assert (found["converged"], found["accepted"], found["status"]) == (1.0, 1.0, 0.0)


def test_errors_of_the_test_set_are_counted_among_the_rows_asked_for(measured):
    p, _, labels = measured

    class Images:
        test = Examples(p.x, labels)

    for rows, wrong in (([0, 1, 2, 3], 1), ([2], 1), ([0, 3], 0)):
        assert measuring.count_errors(p.field, Images, TIGHT, torch.tensor(rows), False) == wrong


def test_shares_means_and_the_largest(measured):
    p, estimate, _ = measured
    free, (plus, minus) = estimate.free, estimate.nudged
    free = replace(
        free,
        residual=torch.tensor([0.1, 0.4, 0.2, 0.3]).double(),
        n_steps=torch.tensor([1, 2, 3, 6], dtype=torch.int32),
    )
    plus = replace(
        plus,
        residual=torch.tensor([0.5, 0.1, 0.1, 0.1]).double(),
        status=torch.tensor([1, 0, 0, 0], dtype=torch.int8),
        n_steps=torch.full((4,), 4, dtype=torch.int32),
    )
    minus = replace(
        minus,
        status=torch.tensor([0, 1, 0, 0], dtype=torch.int8),
        n_steps=torch.full((4,), 8, dtype=torch.int32),
    )
    accepted = torch.tensor([False, True, True, True])
    estimate = replace(estimate, free=free, nudged=(plus, minus), accepted=accepted)
    found = measure(p.field, COST, estimate, p.y)
    expected = {
        "free_residual": 0.4,
        "nudged_residual": 0.5,
        "free_steps": 3.0,
        "nudged_steps": 6.0,
        "converged": 0.5,  # in every phase
        "accepted": 0.75,
        "status": 1.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_phase_that_ran_out_of_steps_is_not_converged():
    p = problem()
    few = Settling(Euler(0.1), tolerance=1e-12, free_steps=2, nudged_steps=2)
    estimate = estimate_gradient(p.field, p.x, p.y, settling=few, beta=0.1)
    found = measure(p.field, COST, estimate, p.y)
    assert found["converged"] == 0.0
    assert found["free_steps"] == 2.0
    assert found["free_residual"] == pytest.approx(float(estimate.free.residual.max()))


def test_a_tally_weighs_steps_by_their_rows():
    tally = Tally()
    tally.add({"error": 10.0}, 1)
    tally.add({"error": 20.0}, 3)
    assert tally.means() == {"error": 17.5}


@pytest.mark.parametrize(("angle", "cosine"), [(0.0, 1.0), (60.0, 0.5), (180.0, -1.0)])
def test_alignment_is_the_cosine_of_the_angle(angle, cosine):
    found = alignments(problem(angle=angle).field)
    assert found == pytest.approx({"alignment_1": cosine, "alignment_2": cosine})
