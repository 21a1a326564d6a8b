"""Contraction: the radius is the eigenvalues', the controller keeps to its limit, and no other."""

import itertools
import math

import pytest
import torch

from bioplaus import (
    Contraction,
    Conv,
    Dense,
    Lateral,
    Layer,
    LayeredField,
    LeakyField,
    Settling,
    Sweeps,
    Tied,
    fit,
)
from bioplaus.contraction import Controller, limit_for, loop_radius
from bioplaus.errors import InputError
from bioplaus.fields import FunctionField
from bioplaus.jacobian import dense_jacobian
from bioplaus.phases import free_phase

SETTLING = Settling(tolerance=0, free_steps=4, nudged_steps=4, verify=False)


def _convolutions(feedback: float = 1.0, seed: int = 0, dtype=torch.float64) -> LayeredField:
    layers = [Layer((3, 4, 4), "relu"), Layer((4, 2, 2), "relu"), Layer(3, "linear")]
    connections = [
        Conv(0, 1, pool="average", gain=1.5),
        Conv(1, 2, pool="average", gain=1.5),
        Conv(2, 1, pool="average", feedback=True, gain=feedback),
        Dense(2, 3),
        Dense(3, 2, gain=feedback),
    ]
    g = torch.Generator().manual_seed(seed)
    return LayeredField((2, 8, 8), layers, connections, generator=g, dtype=dtype)


def _x(rows: int = 6, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(rows, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _eigenvalues(field: LayeredField, x: torch.Tensor) -> torch.Tensor:
    drive = field.drive(x)
    at = field.linearise(free_phase(field, x, settling=SETTLING).s, drive)
    return (
        torch.linalg.eigvals(dense_jacobian(at) + torch.eye(field.n, dtype=x.dtype)).abs().amax(1)
    )


@pytest.mark.parametrize("feedback", [0.1, 1.0, 3.0])
def test_the_radius_is_that_of_the_eigenvalues(feedback):
    field, x = _convolutions(feedback), _x()
    drive = field.drive(x)
    s = free_phase(field, x, settling=SETTLING).s
    true = _eigenvalues(field, x)
    torch.testing.assert_close(loop_radius(field, s, drive, products=60), true, rtol=1e-6, atol=0)
    few = loop_radius(field, s, drive, products=12)
    torch.testing.assert_close(few, true, rtol=0.05, atol=0)


def test_the_radius_of_a_loop_of_complex_eigenvalues():
    weights = {"w": torch.tensor([[0.0, -0.7], [0.7, 0.0]], dtype=torch.float64)}
    field = FunctionField(lambda p, x, s: s @ p["w"].T + x - s, weights, n=2, n_output=1)
    x = torch.ones(3, 2, dtype=torch.float64)
    found = loop_radius(field, x, field.drive(x))
    torch.testing.assert_close(found, torch.full((3,), 0.7, dtype=torch.float64))


def test_residual_and_limit_are_one_choice():
    """A free phase at the limit that a residual implies leaves about that residual."""
    field, x = _convolutions(2.0), _x()
    limit = limit_for(1e-2, SETTLING, field)
    assert limit == pytest.approx(1e-2 ** (1 / 8))
    assert limit_for(1e-2, Settling(free_steps=4, solver=Sweeps()), _lateral()) == pytest.approx(
        1e-2 ** (1 / 4)
    )
    for _ in range(8):
        Controller(Contraction(limit=limit), field, SETTLING).look(1, x)
    assert 0.5 * limit < float(_eigenvalues(field, x).max()) <= limit * 1.01
    residual = free_phase(field, x, settling=SETTLING).residual.max()
    assert 1e-4 < float(residual) < 2e-2


def _lateral() -> LayeredField:
    layers = [Layer(4, "tanh"), Layer(2, "linear")]
    connections = [Dense(0, 1), Lateral(1, gain=2.0), Dense(1, 2), Dense(2, 1)]
    return LayeredField(3, layers, connections, generator=torch.Generator().manual_seed(0))


def test_one_look_comes_to_the_limit_or_shrinks_by_what_is_asked():
    field, x = _convolutions(1.0), _x()
    before = {name: p.clone() for name, p in field.parameters.items()}
    radius = float(_eigenvalues(field, x).max())
    limit = 0.8 * radius
    found, act = Controller(Contraction(limit=limit), field, SETTLING).look(7, x)
    assert act is not None
    assert found == pytest.approx(radius, rel=0.05)
    assert act.step == 7
    assert act.factor == pytest.approx((limit / found) ** 2)
    for name, p in field.parameters.items():
        share = act.factor if name.startswith("feedback") else 1.0
        torch.testing.assert_close(p, share * before[name])
    field = _convolutions(1.0)
    near = Contraction(limit=0.999 * found, shrink=0.9)
    assert Controller(near, field, SETTLING).look(1, x)[1].factor == 0.9
    assert Controller(Contraction(limit=2 * radius), field, SETTLING).look(1, x)[1] is None


def test_looks_are_one_update_apart_after_an_act_and_then_ever_further():
    field, x = _convolutions(1.0), _x()
    radius = float(_eigenvalues(field, x).max())
    control = Controller(Contraction(limit=0.5 * radius, every=10), field, SETTLING)
    looked = {}
    for step in range(1, 71):
        if step == 40:
            for name in field.feedback():
                field.parameters[name].mul_(100.0)
        if step >= control.due:
            looked[step] = control.look(step, x)[1]
    acts = [step for step, act in looked.items() if act is not None]
    first = next(step for step in looked if step not in acts)
    again = [step for step in acts if step > first]
    quiet = [step for step in looked if first <= step < 40]
    assert [b - a for a, b in itertools.pairwise(quiet)] == [2, 4, 8, 10, 10, 10][: len(quiet) - 1]
    assert len(quiet) > 4
    # the next look sees what grew
    assert 40 <= again[0] < 50
    assert again == list(range(again[0], again[0] + len(again)))
    assert len(again) > 3
    assert [step - again[-1] for step in looked if step > again[-1]][:4] == [1, 3, 7, 15]
    assert float(_eigenvalues(field, x).max()) < 0.55 * radius


def test_a_state_that_ran_off_shrinks_feedback_most():
    field, x = _convolutions(1.0), _x()
    field.parameters["feedback.1"].fill_(math.inf)
    radius, act = Controller(Contraction(limit=0.8), field, SETTLING).look(1, x)
    assert radius == math.inf
    assert act.factor == 0.5


def test_what_closes_the_loop():
    assert _convolutions().feedback() == ["feedback.1", "feedback.2"]
    assert _lateral().feedback() == ["lateral.1", "feedback.1"]
    tied = LayeredField(3, [Layer(4, "tanh"), Layer(2)], [Dense(0, 1), Dense(1, 2), Tied(2, 1)])
    assert tied.feedback() == ["forward.2"]
    assert LeakyField([3, 4, 4, 2]).feedback() == ["feedback.1", "feedback.2"]


def test_cap_and_standardisation_hold_after_every_update():
    field = _convolutions(1.0)
    norm = 0.0
    before = field.parameters["forward.2"].clone()
    norm = (before - before.mean((1, 2, 3), keepdim=True)).flatten(1).norm(dim=1).mean()
    control = Controller(Contraction(cap=0.3, standardise=True), field, SETTLING)
    for p in field.parameters.values():
        p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3), dtype=p.dtype))
    control.constrain()
    kernel = field.parameters["forward.2"].flatten(1)
    assert float(kernel.mean(1).abs().max()) < 1e-12
    torch.testing.assert_close(kernel.norm(dim=1), norm.expand(4))
    # onto a channel below lead kernels [above, below, k, k]; onto a unit rows of a matrix
    assert (
        float(field.parameters["feedback.1"].transpose(0, 1).flatten(1).norm(dim=1).max()) <= 0.3001
    )
    assert float(field.parameters["feedback.2"].norm(dim=1).max()) <= 0.3001


def _task(rows: int = 60):
    x = _x(rows, torch.float32)
    return x, (x[:, 0].mean((1, 2)) > x[:, 1].mean((1, 2))).long()


def test_training_keeps_the_radius_that_it_would_have_left_behind():
    """The same run with and without: the loop's radius, the residual and the messages about it."""
    how = {"epochs": 12, "batch_size": 20, "learning_rate": 3e-2, "settling": SETTLING, "seed": 1}
    how |= {"schedule": "constant", "gate": 1e3, "check_rows": 2}
    free = fit(_convolutions(0.6, dtype=torch.float32), _task(), **how)
    field = _convolutions(0.6, dtype=torch.float32)
    asked = Contraction(residual=1e-2, every=1)
    kept = fit(field, _task(), contraction=asked, **how)
    assert max(step.free_residual for step in free.steps) > 0.1
    assert max(step.free_residual for step in kept.steps[3:]) < 2e-2
    assert kept.acts
    limit = limit_for(1e-2, SETTLING, field)
    assert all(act.radius > act.limit == limit for act in kept.acts)
    product = math.prod(act.factor for act in kept.acts)
    assert kept.rows[-1].feedback_scale == pytest.approx(product)
    assert not free.acts
    assert not hasattr(free.rows[-1], "loop_radius")


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path):
    pytest.importorskip("h5py")
    how = {"batch_size": 20, "learning_rate": 3e-2, "settling": SETTLING, "schedule": "constant"}
    how |= {"contraction": Contraction(limit=0.3, every=4, standardise=True), "average": 0.9}
    how |= {"gate": 1e3, "checkpoint_every": 1}

    def stop(row):
        if row.epoch == 2 and not again:
            raise KeyboardInterrupt

    again: list[bool] = []
    whole = _convolutions(0.6, dtype=torch.float32)
    straight = fit(whole, _task(), epochs=4, **how)
    out = tmp_path / "run.h5"
    fit(_convolutions(0.6, dtype=torch.float32), _task(), epochs=4, out=out, callbacks=stop, **how)
    again.append(True)
    field = _convolutions(0.6, dtype=torch.float32)
    resumed = fit(field, _task(), epochs=4, out=out, resume=True, **how)
    assert resumed.acts == straight.acts
    assert len(straight.acts) > 2
    for name, p in field.parameters.items():
        assert torch.equal(p, whole.parameters[name]), name


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"limit": 0.0}, "limit=0.0 must be > 0"),
        ({"residual": 1.5}, "residual=1.5 must be between 0 and 1"),
        ({"shrink": 1.0}, "shrink=1.0 must be between 0 and 1"),
        ({"limit": 0.5, "residual": 0.1}, "give one of the two"),
        ({"limit": 0.5, "every": 0}, "every=0 must be a whole number"),
    ],
)
def test_settings_out_of_range_are_named(asked, words):
    with pytest.raises(InputError, match=words):
        Contraction(**asked)


def test_fields_without_what_is_kept_are_refused():
    plain = LayeredField(3, [Layer(4, "tanh"), Layer(2)], [Dense(0, 1), Dense(1, 2)])
    with pytest.raises(InputError, match="has none; leave its limit"):
        Controller(Contraction(limit=0.5), plain, SETTLING)
    flat = LayeredField(3, [Layer(2)], [Dense(0, 1)])
    with pytest.raises(InputError, match="standardise is about forward weights"):
        Controller(Contraction(standardise=True), flat, SETTLING)
    with pytest.raises(InputError, match=r"give a bioplaus.Contraction"):
        fit(_convolutions(dtype=torch.float32), _task(), contraction=0.8)
