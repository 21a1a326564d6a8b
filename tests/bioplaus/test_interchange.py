"""NIR: what goes out comes back to the bit, another simulator reads it, and damage is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.interchange import from_nir, in_steps, metadata, read_nir, to_nir, write_nir
from bioplaus.nudging import Layered
from tests.fields import clipped, problem

nir = pytest.importorskip("nir")
TAU = 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "tanh"},
        {"activation": "softplus", "linear_output": False, "coordinates": "activity"},
        {"activation": "sigmoid", "tied": True},
        {"sizes": (4, 3)},
        clipped(),
    ],
)
def test_a_round_trip_is_exact_to_the_bit(settings, dtype, tmp_path):
    field = problem(dtype=dtype, **settings).field
    phases = {"beta": 0.1, "dt": 1 / 3, "cost": "cross-entropy"}
    write_nir(tmp_path / "net.nir", to_nir(field, tau=TAU, phases=phases))
    graph = read_nir(tmp_path / "net.nir")
    back = from_nir(graph)
    assert back.parameters.keys() == field.parameters.keys()
    for name, parameter in field.parameters.items():
        assert back.parameters[name].dtype == dtype
        assert parameter.numpy().tobytes() == back.parameters[name].numpy().tobytes(), name
    kept = ("sizes", "tied", "coordinates", "linear_output", "activation", "layers")
    assert all(getattr(back, name) == getattr(field, name) for name in kept)
    assert metadata(graph)["phases"] == phases
    assert metadata(graph)["tau"] == TAU


def test_the_graph_says_what_nir_can_and_what_it_cannot():
    graph = to_nir(problem(sizes=(6, 5, 4, 3)).field, tau=TAU)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert kinds == {
        "input": "Input",
        **{f"layer_{k}": "LI" for k in (1, 2, 3)},
        **{f"forward_{k}": "Affine" for k in (1, 2, 3)},
        **{f"feedback_{k}": "Affine" for k in (1, 2)},
        "output": "Output",
    }
    assert ("layer_3", "feedback_2") in graph.edges
    assert ("feedback_2", "layer_2") in graph.edges
    unsaid = " ".join(metadata(graph)["not_expressed_in_nir"])
    assert all(word in unsaid for word in ("activation", "box", "nudge", "learning rule"))


def linear() -> tuple[LeakyField, torch.Tensor]:
    p = problem(sizes=(6, 5, 4, 3), activation="linear", gain=0.5, dtype=torch.float32)
    return p.field, p.x.float()


def run_sinabs(field: LeakyField, x: torch.Tensor, dt: float, steps: int) -> np.ndarray:
    """The outputs of sinabs at every step, from rest, [steps, B, m]."""
    sinabs = pytest.importorskip("sinabs.nir")
    with pytest.warns(DeprecationWarning, match="nirtorch.load"):
        net = sinabs.from_nir(in_steps(to_nir(field, tau=TAU), dt), batch_size=len(x)).double()
    state, outputs = None, []
    for _ in range(steps):
        y, state = net(x.double(), state)
        outputs.append(y.detach().numpy().copy())
    return np.stack(outputs)


def test_sinabs_takes_the_same_steps():
    field, x = linear()
    dt, steps = 0.1 * TAU, 60
    theirs = run_sinabs(field, x, dt, steps)
    # sinabs lets a layer see the one below at once, and the one above a step later
    keep, double = np.exp(-dt / TAU), {k: p.double() for k, p in field.parameters.items()}
    field = field.with_parameters(double)
    s, drive = torch.zeros(len(x), field.n, dtype=torch.float64), field.drive(x.double())
    for output in theirs:
        parts = field.split(s)
        for k, part in enumerate(parts):
            current = field.current(parts, drive, k, torch.empty_like(part))
            part.copy_(keep * part + (1 - keep) * current)
        np.testing.assert_allclose(output, parts[-1].numpy(), rtol=0, atol=1e-5)


def test_sinabs_tends_to_the_trajectory_of_the_network():
    field, x = linear()
    exact = field.with_parameters({k: p.double() for k, p in field.parameters.items()})
    free = Layered(exact, exact.drive(x.double()))

    def force(t: float, s: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(s.reshape(len(x), -1))
        return free.force(state, torch.empty_like(state)).numpy().ravel()

    times = np.arange(1, 31) / 10  # membrane time constants
    flow = solve_ivp(
        force, (0, 3), np.zeros(len(x) * field.n), t_eval=times, rtol=1e-10, atol=1e-12
    )
    truth = flow.y.T.reshape(len(times), len(x), -1)[:, :, field.output]
    found = {}
    for each in (200, 400):  # steps a time constant
        run = run_sinabs(field, x, TAU / each, 3 * each)
        found[each] = run[each // 10 - 1 :: each // 10]
    errors = [np.abs(run - truth).max() for run in found.values()]
    assert 1.9 < errors[0] / errors[1] < 2.1
    np.testing.assert_allclose(2 * found[400] - found[200], truth, rtol=0, atol=1e-5)


def damaged(change) -> object:
    graph = to_nir(problem(sizes=(4, 5, 3), tied=True).field)
    change(graph)
    return graph


def about(graph, **values) -> None:
    graph.metadata["bioplaus"] = json.dumps(metadata(graph) | values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.metadata.clear(), "not written by bioplaus"),
        (lambda g: g.metadata.update(bioplaus="{"), "not those of format 1"),
        (lambda g: about(g, format=2), "not those of format 1"),
        (lambda g: about(g, activation="reul"), "activation='reul' is unknown"),
        (lambda g: about(g, sizes=[4, 6, 3]), "forward.1 is of shape"),
        (lambda g: about(g, dtype="float32"), "not float32"),
        (lambda g: about(g, dtype="int8"), "int8"),
        (lambda g: about(g, sizes="x"), "must be two or more whole"),
        (lambda g: about(g, sizes=[10**9, 10**9]), "forward.1 is of shape"),
        (lambda g: about(g, tau="x"), "does not fit its own metadata"),
        (lambda g: about(g, tau=0.02), "layer_1 has another tau"),
        (lambda g: g.nodes.pop("forward_2"), "forward_2"),
        (lambda g: g.edges.pop(), "edges"),
        (lambda g: g.nodes["feedback_1"].weight.__imul__(2), "feedback_1 is no transpose"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        from_nir(damaged(change))


def test_bad_input(tmp_path):
    field = problem(sizes=(4, 3)).field
    with pytest.raises(InputError, match="tau=0"):
        to_nir(field, tau=0)
    with pytest.raises(InputError, match="dt=-1"):
        in_steps(to_nir(field), -1)
    with pytest.raises(InputError, match="scaled for a simulator's time step"):
        from_nir(in_steps(to_nir(field), 1e-3))
    with pytest.raises(InputError, match="no such file"):
        read_nir(tmp_path / "nothing.nir")
    (tmp_path / "text.nir").write_text("not HDF5")
    with pytest.raises(InputError, match="no NIR graph"):
        read_nir(tmp_path / "text.nir")
    with pytest.raises(InputError, match="already"):
        write_nir(tmp_path / "text.nir", to_nir(field))
    assert (tmp_path / "text.nir").read_text() == "not HDF5"
