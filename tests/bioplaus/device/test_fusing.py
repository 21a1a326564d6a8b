"""Checks fused by torch.compile, on the CPU, against the same checks operation by operation."""

import pytest
import torch

from bioplaus.activations import Activation
from bioplaus.config import EqpropConfig
from bioplaus.device.fusing import Fused
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.nudging import absolute
from bioplaus.solvers import Sweeps
from bioplaus.solvers.masked import MaskedSearch
from bioplaus.training import build
from bridge.config import load_config


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


def test_on_a_cpu_compiling_is_refused() -> None:
    config = load_config(EqpropConfig, sets=["phases.compile=true", "data.train_size=50"])
    with pytest.raises(InputError, match=r"phases.compile=true .*--device cuda"):
        build(config)
