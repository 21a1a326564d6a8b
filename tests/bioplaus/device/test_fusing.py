"""Checks fused by torch.compile, on the CPU, against the same checks operation by operation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from bioplaus.activations import Activation
from bioplaus.config import EqpropConfig
from bioplaus.costs import get_cost
from bioplaus.device.fusing import Fused
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.nudging import Nudge, absolute, deviations, symmetrised
from bioplaus.nudging.elementwise import compiled_by
from bioplaus.solvers import Sweeps, solve
from bioplaus.solvers.masked import MaskedSearch
from bioplaus.training import build
from bioplaus.training.updates import Recorded, StepByStep
from bridge.config import load_config
from tests.recording import Recorder

SWEEPS = Sweeps()
LIMITS = {"tolerance": 0.0, "max_steps": 12}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own use of what it has deprecated
def test_rows_end_where_they_end_without_compiling() -> None:
    g, fused = torch.Generator().manual_seed(0), Fused()
    swish = Activation("swish", lambda s: s * torch.sigmoid(s))
    for activation, rows, limit in (("tanh", 15, 40), (swish, 6, 4)):
        net = LeakyField([6, 12, 4], activation, generator=g)
        start, x = torch.randn(rows, 16, generator=g), torch.rand(rows, 6, generator=g)
        start[3] = torch.nan
        found = []
        for judging in (None, fused):
            dynamics = absolute(net, net.drive(x))
            search = MaskedSearch(
                dynamics, start, Sweeps(), tolerance=1e-5, max_steps=limit, judging=judging
            )
            search.begin()
            while int(search.waiting[0]):
                search.look_again()
            found.append((search.solution(), search.failed))
        (wanted, lost), (mine, mine_lost) = found
        assert torch.equal(mine.status, wanted.status)
        assert torch.equal(mine.n_steps, wanted.n_steps)
        assert torch.equal(mine_lost, lost)
        torch.testing.assert_close(mine.s, wanted.s, equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(mine.residual, wanted.residual, rtol=1e-4, atol=1e-8)
    assert fused.seconds > 0


def untraceable(s: torch.Tensor) -> torch.Tensor:
    """tanh, by way of numpy and a file name, which torch.compile does not trace."""
    return torch.from_numpy(np.tanh(s.numpy())) if Path(__file__).is_file() else s


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cost", ["cross-entropy", "squared-error"])
@pytest.mark.parametrize("made", [deviations, symmetrised, absolute], ids=lambda f: f.__name__)
def test_elementwise_work_gives_the_same_steps_compiled(made, cost) -> None:
    g, fused = torch.Generator().manual_seed(0), Fused()
    swish = Activation("swish", lambda s: s * torch.sigmoid(s))
    net = LeakyField([6, 12, 9, 4], swish, gain=0.7, generator=g)
    x, y = torch.rand(5, 6, generator=g), torch.eye(4)[torch.arange(5) % 4]
    drive = net.drive(x)
    free = solve(absolute(net, drive), net.initial_state(drive), SWEEPS, **LIMITS)

    def phase(rows: int) -> torch.Tensor:
        nudge = Nudge(get_cost(cost), y[:rows], torch.full((rows, 1), 0.5))
        given = (net, drive[:rows], nudge) + (() if made is absolute else (free.s[:rows],))
        start = free.s[:rows] if made is absolute else torch.zeros_like(free.s[:rows])
        return solve(made(*given), start, SWEEPS, **LIMITS).s

    wanted = phase(5), phase(3)
    torch._dynamo.reset()  # what other tests have compiled
    counters.clear()
    with compiled_by(fused.compiled):
        found = phase(5), phase(3)
        graphs = counters["stats"]["unique_graphs"]
        again = phase(5)
    assert graphs > 0
    assert counters["stats"]["unique_graphs"] == graphs  # another nudge compiles nothing anew
    assert fused.left == []
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
    torch.testing.assert_close(again, found[0], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_function_that_cannot_be_compiled_runs_as_it_is() -> None:
    g, fused = torch.Generator().manual_seed(0), Fused()
    strange, plain = (
        LeakyField([6, 12, 4], Activation(name, value), generator=g.manual_seed(0))
        for name, value in (("strange", untraceable), ("plain", torch.tanh))
    )
    x = torch.rand(5, 6, generator=g)
    wanted, found = (solve_free(net, x) for net in (plain, strange))
    with compiled_by(fused.compiled):
        compiled = solve_free(strange, x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(compiled, wanted)
    assert "untraceable" in fused.left


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_recorded_update_does_its_elementwise_work_compiled() -> None:
    sets = ["network.hidden=[12, 8]", "network.activation=tanh", "network.coordinates=membrane"]
    sets += ["data.train_size=60", "data.test_size=5", "estimator.name=asym-ep"]
    config = load_config(EqpropConfig, sets=sets)
    plain, compiled = (build(config) for _ in range(2))
    recorded = Recorded(compiled, Recorder(), lambda text: None)
    recorded._fused = fused = Fused()  # a config asks for it on a GPU only
    for run in (plain, compiled):
        StepByStep(run).step(torch.arange(20), now=True)
    (rate,) = compiled.optimizer.learning_rates
    recorded._rate.fill_(rate)
    assert recorded._program(torch.arange(20, 40)).do()
    StepByStep(plain).step(torch.arange(20, 40), now=True)
    for name, parameter in plain.field.parameters.items():
        found = compiled.field.parameters[name]
        torch.testing.assert_close(found, parameter, rtol=1e-4, atol=1e-6)
    assert fused.seconds > 0
    assert fused.left == []
    assert {work.__name__ for work in fused._works} >= {"write_signals", "write_pulled"}


def solve_free(net: LeakyField, x: torch.Tensor) -> torch.Tensor:
    drive = net.drive(x)
    return solve(absolute(net, drive), net.initial_state(drive), SWEEPS, **LIMITS).s


def test_on_a_cpu_compiling_is_refused() -> None:
    config = load_config(EqpropConfig, sets=["phases.compile=true", "data.train_size=50"])
    with pytest.raises(InputError, match=r"phases.compile=true .*--device cuda"):
        build(config)
