"""The package against its numpy twin, on networks drawn by number.

A failure is made again by `python -m tests.independent NUMBER`.
"""

import itertools
from collections import Counter

import pytest
import torch

from bioplaus.activations import ACTIVATIONS
from bioplaus.costs import COSTS
from bioplaus.estimators import ESTIMATORS, NUDGINGS, ORACLES
from bioplaus.fields import leaky
from bioplaus.solvers import SOLVERS
from tests.independent import drawing, network
from tests.independent.checking import check, check_free_phase
from tests.independent.drawing import ALL, KINDS, choices, draw

DEFAULT, SLOW = range(50), range(50, ALL)


def hold(numbers: range) -> Counter:
    """Check the cases of these numbers; count what was seen, by kind."""
    counts: Counter = Counter()
    wrong = []
    for number in numbers:
        case = draw(number)
        found = check(case)
        counts += found.counts
        wrong += [f"{case}\n    {line}" for line in found.failures]
    assert not wrong, "\n".join(wrong)
    return counts


def test_the_twin_knows_all_that_is_registered():
    assert set(network.RHO) == set(network.SLOPE) == set(ACTIVATIONS)
    smooth = {name for name, rho in ACTIVATIONS.items() if rho.holomorphic}
    assert set(network.RHO) - set(network.CORNERS) == smooth
    assert set(network.COSTS) == set(COSTS)
    assert set(KINDS) == {*ESTIMATORS, *ORACLES}
    assert set(drawing.SOLVERS) == set(SOLVERS)
    assert set(drawing.COORDINATES) == set(leaky.COORDINATES)
    assert set(drawing.NUDGINGS) == set(NUDGINGS)


def test_every_combination_is_drawn():
    drawn = {choices(number) for number in (*DEFAULT, *SLOW)}
    assert drawn == set(itertools.product(network.RHO | {"clipped": None}, KINDS, SOLVERS))
    assert {kind for _, kind, _ in map(choices, DEFAULT)} == set(KINDS)
    cases = [draw(number) for number in DEFAULT]
    for case in cases:
        units, kind, solver = choices(case.number)
        assert units in (case.options["activation"], case.options["coordinates"])
        assert case.estimator == kind or kind == "holomorphic"
        assert case.solver == solver or case.estimator == "continual"
    assert {len(case.twin.sizes) - 1 for case in cases} == {1, 2, 3, 4}
    assert {case.dtype for case in cases} == {torch.float32, torch.float64}
    assert {case.cost.name for case in cases} == set(COSTS)
    assert {case.options["coordinates"] for case in cases} == set(drawing.COORDINATES)
    assert {case.settings.get("nudging", "centered") for case in cases} == set(drawing.NUDGINGS)


@pytest.mark.slow
def test_fifty_networks():
    counts = hold(DEFAULT)
    # a fuzz that checks nothing shows nothing
    assert counts["converged phases"] >= 150
    assert counts["returned"] >= 0.95 * counts["converged phases"]
    assert counts["flows that settle"] >= 90
    assert counts["updates compared closely"] >= 25


@pytest.mark.slow
def test_the_other_networks_of_every_combination():
    counts = hold(SLOW)
    assert counts["converged phases"] >= 1500
    assert counts["returned"] >= 0.95 * counts["converged phases"]
    assert counts["flows that settle"] >= 850
    assert counts["flows that do not settle"] >= 60
    assert counts["updates compared"] >= 500
    assert counts["updates compared closely"] >= 230
    assert counts["another nudged attractor"] == 0


@pytest.mark.slow
def test_networks_too_large_for_all_their_eigenvalues():
    wrong, counts = [], Counter()
    for number in range(1000, 1040):
        case = draw(number, widest=60)
        found = check_free_phase(case)
        counts += found.counts
        wrong += [f"{case}\n    {line}" for line in found.failures]
    assert not wrong, "\n".join(wrong)
    assert counts["converged phases"] >= 40
