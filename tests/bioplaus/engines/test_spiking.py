"""Spikes between the units: rates follow the field, and the estimate nears the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bioplaus.engines import Course, Population, spiking_estimate
from bioplaus.errors import InputError
from bioplaus.estimators import estimate_gradient
from bioplaus.phases import free_phase
from tests.engines import require_brian2
from tests.fields import TIGHT, clipped, flat, problem

require_brian2()
SECOND = Course(free="1 second", nudged="1 second")
SHORT = Course(free="20 ms", nudged="20 ms")


def symmetric(**kw):
    """A network whose rate form estimates its gradient without bias as beta falls."""
    return problem(sizes=(6, 8, 4), coordinates="activity", tied=True, **kw)


def angle(u: dict, v: dict) -> float:
    cosine = torch.cosine_similarity(flat(u), flat(v), dim=0)
    return float(torch.rad2deg(torch.arccos(cosine)))


def field_has_corners(field) -> bool:
    return field.activation.name == "hard-sigmoid"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"activation": "sigmoid"}, "poisson"),
        (clipped(), "lif"),
        pytest.param({"activation": "sigmoid"}, "lif", marks=pytest.mark.slow),
        pytest.param(clipped(), "poisson", marks=pytest.mark.slow),
        *(
            pytest.param(
                {"activation": "tanh", "linear_output": False}, code, marks=pytest.mark.slow
            )
            for code in ("poisson", "lif")
        ),
    ],
)
def test_filtered_rates_follow_the_field(settings, code):
    p = problem(sizes=(6, 5, 3), **settings)
    run = spiking_estimate(
        *(p.field, p.x, p.y), population=Population(100, "400 Hz", code), course=SECOND
    )
    fixed = free_phase(p.field, p.x, settling=TIGHT).s
    # 100 neurons at up to 400 Hz for 2 x 1 s: a rate is known to 1/sqrt(80000) = 0.4 % and better;
    # s fluctuates by 4 % of a weight, and the mean of a clip is off where its corner is near. At
    # 100 Hz `lif` would be further off: it fires at its stationary rate only where that is well
    # above 1/membrane
    most = 0.02 if field_has_corners(p.field) else 0.01
    torch.testing.assert_close(run.free, fixed, rtol=0, atol=3 * most)
    assert float((run.free - fixed).pow(2).mean().sqrt()) < most
    moved = (run.plus - run.minus).abs().max()
    assert float(moved) > 0.1


@pytest.mark.slow
def test_the_angle_falls_as_the_square_root_of_neurons_and_of_time():
    p = symmetric(activation="sigmoid")
    truth = estimate_gradient(p.field, p.x, p.y, estimator="implicit", settling=TIGHT).updates
    angles = {}
    for cells, time in ((4, 250), (64, 250), (4, 4000)):
        course = Course(free=f"{time} ms", nudged=f"{time} ms")
        runs = [
            spiking_estimate(
                *(p.field, p.x, p.y),
                beta=0.3,
                population=Population(cells),
                course=course,
                seed=seed,
            )
            for seed in range(4)
        ]
        angles[cells, time] = np.sqrt(np.mean([angle(r.updates, truth) ** 2 for r in runs]))
    assert 2.5 < angles[4, 250] / angles[64, 250] < 6
    assert 2.5 < angles[4, 250] / angles[4, 4000] < 6


@pytest.mark.parametrize("code", ["poisson", pytest.param("lif", marks=pytest.mark.slow)])
def test_the_raster_holds_the_first_input_s_spikes_at_its_rates(code):
    p = problem(sizes=(6, 5, 3), activation="sigmoid", linear_output=False, batch=1)
    run = spiking_estimate(
        *(p.field, p.x, p.y),
        beta=1e-9,  # the two rows and the two phases are then the same but for the noise
        population=Population(50, code=code),
        course=SECOND,
        raster=True,
    )
    assert run.raster is not None
    times, cells = run.raster
    assert run.onset == pytest.approx(1.1)
    assert 0 <= times.min() < times.max() < 2.2
    rates = np.bincount(cells // 50, minlength=8) / (50 * 2.2)
    fixed = free_phase(p.field, p.x, settling=TIGHT).s
    expected = 100 * torch.sigmoid(fixed[0]).numpy()
    np.testing.assert_allclose(rates, expected, rtol=0.06)
    assert abs(len(times) - run.spikes / 2) < 5 * np.sqrt(run.spikes)


def test_a_seed_is_a_simulation():
    p = symmetric(activation="sigmoid")
    runs = [spiking_estimate(p.field, p.x, p.y, course=SHORT, seed=s) for s in (1, 1, 2)]
    assert torch.equal(flat(runs[0].updates), flat(runs[1].updates))
    assert not torch.equal(flat(runs[0].updates), flat(runs[2].updates))
    assert runs[0].raster is None


@pytest.mark.parametrize(
    ("population", "words"),
    [
        (Population(top="100 mV"), "top='100 mV' is not a rate"),
        (Population(top=100.0), "top=100.0 is not a rate"),
        (Population(membrane="3 Hz"), "membrane='3 Hz' is not a time"),
        (Population(top="2000 Hz"), "more than a spike a step"),
        (Population(code="burst"), "code='burst' is unknown; use one of poisson, lif"),
        (Population(0), "cells=0 must be"),
        (Population(7), "cells=7 must be even"),
        (Population(10**6), "use fewer neurons"),
    ],
)
def test_wrong_populations_are_refused(population, words):
    p = symmetric(activation="tanh")
    with pytest.raises(InputError, match=words):
        spiking_estimate(p.field, p.x, p.y, population=population)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0}, "beta != 0"),
        ({"course": Course(free="1 second")}, "needs a nudged phase"),
        ({"course": Course(nudged="1 second", method="rk4")}, "method='rk4'"),
        ({"course": Course(nudged="1 second", target="cpp_standalone")}, "cpp_standalone"),
        ({"settle": "5 mV"}, "settle='5 mV' is not a time"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    p = symmetric(activation="tanh")
    with pytest.raises(InputError, match=words):
        spiking_estimate(p.field, p.x, p.y, **settings)


def test_an_activation_without_a_largest_rate_is_refused():
    p = problem(activation="softplus")
    with pytest.raises(InputError, match="activation='softplus' has no largest rate"):
        spiking_estimate(p.field, p.x, p.y)
