"""The oracle's masked steps, which a GPU records, against its loop on the CPU."""

import pytest
import torch

from nlhf import run_tabular, solve_equilibrium
from nlhf.games import GAMES, random_games, random_policies
from nlhf.newton import LOOKS, TRIALS, MaskedSearch, start
from nlhf.oracle import PRECISION, solve_and_tell
from nlhf.regularised_game import exploitability, uniform_reference
from tests.recording import Recorder


def games(n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(k)
    return random_games(n, k, g), random_policies(n, k, g)


class Unable(Recorder):
    """A recorder of a library whose linear solves wait for the device."""

    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("make", [Recorder, Unable])
@pytest.mark.parametrize(("n", "k"), [(40, 2), (40, 5), (1, 30)])
def test_masked_steps_give_the_equilibria_of_the_loop(make, n, k) -> None:
    P, mu = games(n, k)
    mu[0, 1:] = torch.log_softmax(mu[0, 1:], -1)
    mu[0, 0] = -torch.inf  # an action that the reference excludes
    tau = torch.logspace(0, -3, n, dtype=torch.float64)  # games end after 10 to 50 steps
    recorder = make()
    found, how = solve_and_tell(P, mu, tau, recorder=recorder)
    assert how == ("CUDA graph" if make is Recorder else "masked steps")
    assert float(exploitability(P, found, mu, tau).max()) <= PRECISION
    wanted = solve_equilibrium(P, mu, tau)
    torch.testing.assert_close(found.exp(), wanted.exp(), atol=1e-13, rtol=0)
    if make is Recorder:  # the host hears of a count while the next steps are under way
        told = " ".join(recorder.told).removeprefix("record ")
        look = " ".join(["fetch", *["replay"] * LOOKS, "read"])
        assert told == " ".join([look] * told.count("fetch"))


@pytest.mark.parametrize("most", [0, 1, 7, 20])
def test_games_stop_after_as_many_steps_as_in_the_loop(most) -> None:
    P, mu = games(20, 3)
    limits = {"max_iterations": most, "throw": False}
    found, _ = solve_and_tell(P, mu, 1e-3, recorder=Recorder(), **limits)
    wanted = solve_equilibrium(P, mu, 1e-3, **limits)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-9)


def test_a_step_is_halved_more_often_than_one_product_tries() -> None:
    P, mu = games(200, 3)
    P = 0.5 * (P + 1 - P.mT)
    search = MaskedSearch(
        start(P - 0.5, mu, torch.full((200,), 1e-3, dtype=torch.float64)), 0.1, 500
    )
    halved = []
    while int(search.waiting):
        search.step()
        halved.append(int(search._halvings.max()))
    assert max(halved) >= TRIALS
    found = torch.log_softmax(search.batch.logits, -1)
    assert float(exploitability(P, found, mu, 1e-3).max()) <= PRECISION
    wanted = solve_equilibrium(P, mu, 1e-3, factor=0.1)
    torch.testing.assert_close(found.exp(), wanted.exp(), atol=1e-11, rtol=0)


def test_what_cannot_be_solved_ends_too() -> None:
    P = torch.stack([GAMES["biased-rock-paper-scissors"].P] * 2)
    mu, tau = uniform_reference(P), torch.tensor([1e-300, 0.1], dtype=torch.float64)
    found, _ = solve_and_tell(P, mu, tau, max_iterations=50, throw=False, recorder=Recorder())
    assert float(exploitability(P[1], found[1], mu[1], 0.1)) <= PRECISION
    assert not float(exploitability(P[0], found[0], mu[0], 1e-300)) <= PRECISION * 1e-300
    with pytest.raises(RuntimeError, match="game 0 of 2 was not solved"):
        solve_and_tell(P, mu, tau, max_iterations=50, recorder=Recorder())


def test_a_singular_matrix_ends_its_own_game_only() -> None:
    # no game of P + P^T = 1 has one: A = diag(8, 8) at tau = 4 has I - 2 (diag pi - pi pi^T)
    A = torch.stack([8 * torch.eye(2, dtype=torch.float64), games(1, 2)[0][0] - 0.5])
    mu = torch.full((2, 2), 0.5, dtype=torch.float64).log()
    search = MaskedSearch(start(A, mu, torch.full((2,), 4.0, dtype=torch.float64)), 0.5, 100)
    replay = Recorder().record(search.step)
    while int(search.waiting):
        replay()
    assert search.batch.logits.isnan().any(-1).tolist() == [True, False]


def test_a_sweep_tells_how_the_oracle_ran() -> None:
    P, mu = games(3, 4)
    assert run_tabular(P, mu, 0.5, iterations=2).oracle == "plain torch"
    assert solve_and_tell(P[:0], mu[:0], 0.5, recorder=Recorder())[0].shape == (0, 4)
