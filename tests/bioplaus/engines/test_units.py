"""Times have units; a wrong unit is refused before anything is simulated."""

from __future__ import annotations

import pytest

from bioplaus.engines import Course, simulate
from bioplaus.engines.package import duration, frequency, load_brian2
from bioplaus.errors import InputError
from tests.engines import require_brian2
from tests.fields import problem

require_brian2()


def test_the_same_time_in_any_unit():
    brian2 = load_brian2()
    times = ["10 ms", "0.01 second", "1e4 us", 10 * brian2.ms]
    assert {float(duration("tau", time)) for time in times} == {0.01}
    assert float(frequency("rate", "0.1 kHz")) == 100.0


@pytest.mark.parametrize(
    ("course", "words"),
    [
        ({"tau": "10 mV"}, "tau='10 mV' is not a time"),
        ({"dt": 0.1}, "dt=0.1 is not a time"),
        ({"dt": "20 ms"}, "dt='20 ms' is longer than tau='10 ms'"),
        ({"free": "200 Hz"}, "free='200 Hz' is not a time"),
        ({"nudged": "2 amp"}, "nudged='2 amp' is not a time"),
        ({"free": "inf ms"}, "number and a unit"),
        ({"method": "magic"}, "method='magic'"),
        ({"target": "gpu"}, "target='gpu'"),
    ],
)
def test_a_wrong_unit_is_refused(course, words):
    p = problem(sizes=(6, 5, 3))
    with pytest.raises(InputError, match=words):
        simulate(p.field, p.x, p.y, beta=0.1, course=Course(**course))


def test_a_quantity_of_the_wrong_dimension_is_refused():
    brian2 = load_brian2()
    with pytest.raises(InputError, match="is not a time"):
        duration("tau", 3 * brian2.mV)
    with pytest.raises(InputError, match="is not a rate"):
        frequency("rate", 3 * brian2.ms)


def test_a_nudged_phase_needs_targets():
    p = problem(sizes=(6, 5, 3))
    with pytest.raises(InputError, match="needs targets"):
        simulate(p.field, p.x, beta=0.1, course=Course(nudged="10 ms"))


def test_too_many_synapses_are_refused():
    p = problem(sizes=(6, 5, 3))
    x = p.x[:1].expand(3_000_000, -1)
    with pytest.raises(InputError, match="fewer images at once"):
        simulate(p.field, x, course=Course())
