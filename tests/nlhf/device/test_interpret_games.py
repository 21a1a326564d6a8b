"""The kernel of Nash-MD's steps, under Triton's interpreter, against the method in plain torch."""

import pytest
import torch

from nlhf.algorithms import NashMD, Problem, SelfPlay, State, Votes
from nlhf.device.resident import advance, held, unfit

pytest.importorskip("triton")


def problem(shape: tuple[int, ...], actions: int, dtype: torch.dtype, excluded: bool) -> Problem:
    """Random games, a reference each, and a tau a policy."""
    g = torch.Generator().manual_seed(actions)
    upper = torch.rand(shape[-1], actions, actions, generator=g, dtype=dtype).triu(1)
    P = upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(actions, dtype=dtype)
    logits = torch.randn(shape[-1], actions, generator=g, dtype=dtype)
    if excluded:
        logits[0, 1] = -torch.inf
    tau = 0.1 + torch.rand(shape, generator=g, dtype=dtype)
    return Problem(P, torch.log_softmax(logits, -1), tau)


def plain(method: NashMD, given: Problem, steps: int) -> tuple[State, State]:
    before = state = method.init(given)
    for _ in range(steps):
        before, state = state, method.step(given, state)
    return before, state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "actions", "steps", "per_program"),
    [
        ((5,), 3, 4, None),  # one program, policies that are not there
        ((2, 3, 4), 10, 3, 2),  # 24 policies of four games
        ((1,), 17, 1, None),  # one row, one step
        ((2,), 65, 2, None),  # one block of 64 rows, one of 32
        ((1,), 129, 3, None),  # 128 + 32 rows
        ((2, 3), 150, 2, None),  # six policies of three games
        ((1,), 225, 2, None),  # too large for the registers: in columns, the last ones not full
    ],
)
def test_interpret_steps_are_those_of_the_method(shape, actions, steps, per_program, dtype) -> None:
    given = problem(shape, actions, dtype, excluded=actions == 10)
    method = NashMD()
    start = method.init(given)
    kept = start.log_pi.clone()
    found = advance(method, given, start, steps, per_program=per_program)
    for mine, wanted in zip(found, plain(method, given, steps), strict=True):
        assert mine.step == wanted.step
        tolerance = 5e-6 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(mine.log_pi, wanted.log_pi, rtol=tolerance, atol=tolerance)
    assert torch.equal(start.log_pi, kept)


@pytest.mark.parametrize(
    "method",
    [
        NashMD(eta=0.3),
        NashMD(eta=lambda t: 0.5 / (t + 1)),
        NashMD(eta=0.3, mixture=1.0),
        NashMD(mixture=lambda t: 0.1 * t),
    ],
)
@pytest.mark.parametrize("actions", [4, 70])
def test_interpret_every_rate_and_mixture(method, actions) -> None:
    given = problem((3,), actions, torch.float64, excluded=True)
    torch.testing.assert_close(
        advance(method, given, method.init(given), 3)[1].log_pi, plain(method, given, 3)[1].log_pi
    )


@pytest.mark.parametrize("actions", [200, 224])
def test_interpret_the_largest_games_that_are_held(actions) -> None:
    given = problem((2,), actions, torch.float32, excluded=True)
    found = advance(NashMD(), given, NashMD().init(given), 2)[1]
    torch.testing.assert_close(
        found.log_pi, plain(NashMD(), given, 2)[1].log_pi, rtol=5e-6, atol=5e-6
    )


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float32, 224), (torch.float64, 160)], ids=["single", "double"]
)
def test_interpret_games_are_held_up_to_a_size(dtype, largest) -> None:
    for actions in (3, 64, 65, 128, 129, largest):
        assert held(problem((1,), actions, dtype, excluded=False)), actions
    for actions in (largest + 1, 480, 1024):
        assert not held(problem((1,), actions, dtype, excluded=False)), actions


def test_interpret_runs_go_on_where_the_last_one_ended() -> None:
    given, method = problem((3,), 4, torch.float64, excluded=False), NashMD()
    state = advance(method, given, method.init(given), 2)[1]
    found = advance(method, given, state, 3)[1]
    torch.testing.assert_close(found.log_pi, plain(method, given, 5)[1].log_pi)
    assert found.step == 5


def test_interpret_says_what_the_kernel_cannot_take() -> None:
    given = problem((3,), 4, torch.float64, excluded=False)
    assert unfit(NashMD(), given) is None
    assert "self-play" in str(unfit(SelfPlay(), given))
    votes = Problem(given.P, given.log_mu, given.tau, Votes(1, (torch.Generator(),)))
    assert "votes" in str(unfit(NashMD(), votes))
    large = problem((1,), 1100, torch.float32, excluded=False)
    assert "1100" in str(unfit(NashMD(), large))
