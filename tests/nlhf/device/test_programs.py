"""What runs the steps of a method, and that a recorded step is the method's own."""

import pytest
import torch

from nlhf import run_tabular
from nlhf.algorithms import ALGORITHMS, NashMD, Problem, get_algorithm
from nlhf.device.programs import OneByOne, Recorded, choose
from nlhf.errors import InputError
from tests.recording import Recorder

NOT_RECORDED = {"exact", "comal"}
"""One asks whether it has been solved before, one whether its reference is to move."""


def problem() -> Problem:
    g = torch.Generator().manual_seed(0)
    upper = torch.rand(3, 5, 5, generator=g, dtype=torch.float64).triu(1)
    P = upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(5)
    log_mu = torch.log_softmax(torch.randn(3, 5, generator=g, dtype=torch.float64), -1)
    return Problem(P, log_mu, torch.full((2, 3), 0.4, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_recorded_step_is_the_methods(name) -> None:
    given, method, recorder = problem(), get_algorithm(name)(), Recorder()
    program = Recorded(method, recorder)
    state = method.init(given)
    for steps in (1, 4, 2):  # what was recorded goes on from where it is told
        found = program.advance(given, state, steps)
        wanted = OneByOne(method.step).advance(given, state, steps)
        for mine, other in zip(found, wanted, strict=True):
            assert mine.step == other.step
            torch.testing.assert_close(mine.log_pi, other.log_pi, rtol=1e-13, atol=1e-13)
            assert mine.memory.keys() == other.memory.keys()
        state = found[1]
    if name in NOT_RECORDED:
        assert program.name == "plain torch"
    else:
        assert program.name == "CUDA graph"
        assert recorder.told == ["record"] + ["replay"] * 5


def test_a_sweep_says_what_ran_its_steps() -> None:
    given = problem()
    sweep = run_tabular(
        given.P, given.log_mu, 0.4, ["nash-md", "self-play"], iterations=7, device="cpu"
    )
    assert sweep.programs == ("plain torch", "plain torch")
    assert isinstance(choose(NashMD(), given), OneByOne)


@pytest.mark.parametrize("device", ["cuda", "nowhere"])
def test_a_device_that_is_not_there_is_refused(device) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    given = problem()
    with pytest.raises(InputError, match=f"device='{device}'"):
        run_tabular(given.P, given.log_mu, 0.4, device=device)
