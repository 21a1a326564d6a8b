"""The energy of tied weights: its slope is the field, and it falls while the network settles."""

import pytest
import torch

from bioplaus import Dataset, fit
from bioplaus.activations import ACTIVATIONS
from bioplaus.errors import InputError
from bioplaus.fields import (
    Conv,
    Dense,
    FunctionField,
    Lateral,
    Layer,
    LayeredField,
    LeakyField,
    Tied,
    energy,
    hopfield,
)
from bioplaus.phases import Settling, free_energies, free_phase
from bioplaus.solvers import Euler, Sweeps
from bioplaus.training import fitting
from bridge.runlog import read_run
from tests.fields import clipped, problem
from tests.graphs import convolutional, tied

DOUBLE = torch.float64


def with_lateral():
    layers = [Layer(5, "tanh"), Layer(3, "linear")]
    connections = [Dense(0, 1), Lateral(1, gain=0.3), Dense(1, 2), Tied(2, 1)]
    field = LayeredField(4, layers, connections, dtype=DOUBLE)
    weight = field.parameters["lateral.1"]
    weight.copy_(weight + weight.T)
    return field


FIELDS = {
    "conv": tied,
    "lateral": with_lateral,
    "leaky": lambda: problem(tied=True).field,
    "clipped": lambda: problem(tied=True, **clipped()).field,
    "box": lambda: hopfield([4, 6, 5, 3], "clipped", dtype=DOUBLE),
    **{rho: lambda rho=rho: hopfield([4, 6, 3], rho, dtype=DOUBLE) for rho in ACTIVATIONS},
}


def drawn(name):
    torch.manual_seed(1)
    field = FIELDS[name]()
    for p in field.parameters.values():
        if p.ndim == 1:
            p.copy_(0.3 * torch.randn(p.shape, dtype=p.dtype))
    x = torch.rand(3, *field.shapes[0], dtype=DOUBLE)
    return field, x, field.confine_state(torch.randn(3, field.n, dtype=DOUBLE))


@pytest.mark.parametrize("name", FIELDS)
def test_the_slope_of_the_energy_is_minus_rho_prime_times_the_field(name):
    field, x, s = drawn(name)
    boxed = any(spec.box for spec in field.specs)
    if boxed:  # within the box, where the field is that of its currents
        s = 0.2 + 0.6 * torch.rand_like(s)
    h, slope = 1e-6, torch.empty_like(s)
    for i in range(field.n):
        e = torch.zeros_like(s)
        e[:, i] = h
        slope[:, i] = (energy(field, x, s + e) - energy(field, x, s - e)) / (2 * h)
    drive, parts = field.drive(x), field.split(s)
    r = [field.activity(own, k) for k, own in enumerate(parts)]
    for k, own in enumerate(parts):
        mu = field.current(r, drive, k) - own
        expected = -field.specs[k].rho.slope(own) * mu
        torch.testing.assert_close(slope[:, field.layers[k]], expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(
    "solver", [pytest.param(Euler(0.1), marks=pytest.mark.slow), Sweeps()], ids=str
)
@pytest.mark.parametrize("name", FIELDS)
def test_the_energy_does_not_rise_in_the_free_phase(name, solver):
    if name == "lateral" and isinstance(solver, Sweeps):
        pytest.skip("a layer that acts on itself is not settled by one step")
    field, x, s = drawn(name)
    settling = Settling(solver, tolerance=1e-9, free_steps=400)
    end, path = free_energies(field, x, settling=settling, start=s)
    assert bool((path[0] - path[-1] > 1e-3).all())
    assert float(path.diff(dim=0).max()) <= 1e-12
    assert len(path) == int(end.n_steps.max()) + 1
    assert bool((end.residual <= 1e-4).all())


def test_a_function_field_has_the_energy_that_it_was_given():
    def fall(p, x, s):
        return p["k"] * (x - s)

    def bowl(p, x, s):
        return p["k"] * (s - x).square().sum(1) / 2

    field = FunctionField(fall, {"k": torch.tensor(0.5)}, n=2, n_output=1, energy=bowl)
    path = free_energies(field, torch.ones(1, 2), settling=Settling(Euler(0.5)))[1]
    torch.testing.assert_close(path[:3, 0], torch.tensor([0.5, 0.28125, 0.158203125]))


def test_what_has_no_energy_says_why():
    def gate(p, x, s):
        return p["k"] - s

    cases = {
        "feedback.1 has no tied partner": LeakyField([3, 4, 2]),
        "forward.2 has no tied partner the other way": LayeredField(
            3, [Layer(4), Layer(2)], [Dense(0, 1), Dense(1, 2)]
        ),
        "pooling of forward.1 is not linear": convolutional("max"),
        "given no energy": FunctionField(gate, {"k": torch.ones(2)}, n=2, n_output=1),
        "lateral.1 has no tied partner": LayeredField(3, [Layer(4)], [Dense(0, 1), Lateral(1)]),
    }
    for part, field in cases.items():
        x = torch.rand(1, *(field.input or (2,)), dtype=field.dtype)
        with pytest.raises(InputError, match=part):
            energy(field, x, torch.zeros(1, field.n, dtype=field.dtype))
    assert Conv(0, 1).linear


def blobs():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(40, 4, generator=g)
    return Dataset.from_arrays(x[:30], (x[:30, 0] > 0.5).long(), x[30:], (x[30:, 0] > 0.5).long())


@pytest.mark.parametrize("kind", ["layered", "function"])
def test_a_training_logs_the_energy(kind, tmp_path):
    data, out = blobs(), tmp_path / "run.h5"
    field = hopfield([4, 6, 2], generator=torch.Generator().manual_seed(0))
    if kind == "function":
        twin = field
        field = FunctionField(
            lambda p, x, s: twin.with_parameters(p).field(x, s),
            field.parameters,
            n=8,
            n_output=2,
            energy=lambda p, x, s: energy(twin.with_parameters(p), x, s),
        )
    history = fit(field, data, estimator="vector-field", epochs=2, out=out, check_rows=7)
    shown = data.test.inputs[:7].double()
    free = free_phase(field.precise(), shown, settling=fitting.SETTLING)
    mean = float(energy(field.precise(), shown, free.s).mean())
    assert history.rows[-1].energy == pytest.approx(mean, abs=1e-3)
    assert history.rows[0].energy != history.rows[1].energy
    assert [row.energy_rise for row in history.rows] == [0, 0]
    assert not history.warnings
    table = read_run(out).table("epochs")
    assert table["energy"].tolist() == [row.energy for row in history.rows]


def test_a_rise_is_told():
    def mu(p, x, s):
        return x[:, :3] @ p["w"] - s

    def wrong(p, x, s):  # rises where mu falls
        return -mu(p, x, s).square().sum(1)

    field = FunctionField(mu, {"w": torch.eye(3)}, n=3, n_output=2, input=4, energy=wrong)
    history = fit(field, blobs(), estimator="vector-field", epochs=1, solver=Euler(dt=0.5))
    shown = blobs().test.inputs.double()
    settling = Settling(solver=Euler(dt=0.5), tolerance=1e-3)
    _, energies = free_energies(field.precise(), shown, settling=settling)
    assert history.rows[0].energy_rise == float(energies.diff(dim=0).max()) > 0
    assert any("energy rises by up to" in text for text in history.warnings)


@pytest.mark.parametrize("name", ["untied", "learns its lateral weights"])
def test_a_field_that_has_no_energy_or_loses_it_logs_none(name):
    field = LeakyField([4, 5, 2]) if name == "untied" else with_lateral()
    history = fit(field, blobs() if name == "untied" else three(), epochs=1)
    assert not hasattr(history.rows[0], "energy")


def three():
    x = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
    return Dataset.from_arrays(x, torch.arange(12) % 3)
