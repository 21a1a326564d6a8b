"""The package against its numpy twin, on networks drawn by number.

A failure is made again by `python -m tests.independent NUMBER`.
"""

from collections import Counter

import pytest

from tests.independent.checking import check, check_free_phase
from tests.independent.drawing import draw


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


def test_fifty_networks():
    counts = hold(range(50))
    # a fuzz that checks nothing shows nothing
    assert counts["converged phases"] >= 150
    assert counts["returned"] >= 0.95 * counts["converged phases"]
    assert counts["flows that settle"] >= 90
    assert counts["updates compared closely"] >= 25


@pytest.mark.slow
def test_five_hundred_networks():
    counts = hold(range(50, 550))
    assert counts["converged phases"] >= 1200
    assert counts["returned"] >= 0.95 * counts["converged phases"]
    assert counts["flows that settle"] >= 700
    assert counts["flows that do not settle"] >= 40
    assert counts["updates compared"] >= 400
    assert counts["updates compared closely"] >= 180
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
