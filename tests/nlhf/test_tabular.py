"""The sweep is the single runs, all at once."""

import pytest
import torch

from nlhf import run_tabular
from nlhf.algorithms import Extragradient, Magnetic, NashMD, Problem
from nlhf.errors import InputError
from nlhf.games import random_games, random_policies
from nlhf.regularised_game import exploitability, kl


def games(n=3, k=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return random_games(n, k, g), random_policies(n, k, g)


def test_every_cell_is_its_own_run():
    P, mu = games()
    taus = [1.0, 0.2]
    sweep = run_tabular(P, mu, taus, ["nash-md", Extragradient(1.0)], iterations=40)
    assert sweep.methods == ("nash-md", "extragradient")
    assert sweep.log_pi.shape == (2, 2, 1, 3, 4)
    for m, method in enumerate((NashMD(), Extragradient(1.0))):
        for t, tau in enumerate(taus):
            problem = Problem(P[1], mu[1], torch.tensor(tau, dtype=torch.float64))
            state = method.init(problem)
            for _ in range(40):
                state = method.step(problem, state)
            torch.testing.assert_close(sweep.log_pi[m, t, 0, 1], state.log_pi)
            star = sweep.log_equilibrium[t, 1]
            assert float(sweep.kl_to_equilibrium[m, t, 0, 1, -1]) == pytest.approx(
                float(kl(state.log_pi, star))
            )
            assert float(sweep.kl_from_equilibrium[m, t, 0, 1, -1]) == pytest.approx(
                float(kl(star, state.log_pi))
            )
            f = exploitability(P[1], state.log_pi, mu[1], tau)
            assert float(sweep.exploitability[m, t, 0, 1, -1]) == pytest.approx(float(f))


def test_slack_of_theorem_one_is_never_negative():
    P, mu = games(n=20)
    sweep = run_tabular(P, mu, [0.5, 0.1], ["nash-md", "magnetic"], iterations=200)
    assert (sweep.slack[0] >= 0).all()
    assert sweep.slack[1].isnan().all()
    assert sweep.steps[0] == 1
    assert sweep.steps[-1] == 200


def test_a_seeds_votes_do_not_depend_on_the_other_seeds():
    P, mu = games()
    alone = run_tabular(P, mu, 1.0, seeds=[7], iterations=30, votes=5)
    among = run_tabular(P, mu, 1.0, seeds=[3, 7, 9], iterations=30, votes=5)
    assert torch.equal(among.log_pi[:, :, 1], alone.log_pi[:, :, 0])
    assert not torch.equal(among.log_pi[:, :, 0], among.log_pi[:, :, 2])


def test_chosen_steps_and_settings():
    P, mu = games()
    settings = {"self-play": {"eta": 0.3}}
    sweep = run_tabular(
        P, mu, methods=["self-play"], iterations=10, record=[2, 10], settings=settings
    )
    assert sweep.steps == (2, 10)
    assert sweep.entropy.shape[-1] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own use of it
def test_compiled_steps_are_the_same():
    P, mu = games()
    methods = ["nash-md", "extragradient"]
    plain = run_tabular(P, mu, 0.5, methods, iterations=30)
    fused = run_tabular(P, mu, 0.5, methods, iterations=30, compiled=True)
    torch.testing.assert_close(fused.log_pi, plain.log_pi, atol=1e-12, rtol=0)


def test_each_run_of_a_batch_says_whether_it_has_converged():
    P, mu = games()
    methods = ["exact", "mirror-prox", "best-response"]
    sweep = run_tabular(P, mu, [1.0, 1e-3], methods, iterations=60)
    assert sweep.converged.shape == (3, 2, 1, 3)
    assert sweep.converged[0].all()
    assert sweep.converged[1, 0].all()
    assert not sweep.converged[2, 1].any()
    tau = sweep.taus[:, None, None, None]
    assert torch.equal(sweep.certificate, sweep.exploitability / tau)
    assert (sweep.kl_to_equilibrium <= sweep.certificate * (1 + 1e-9) + 1e-20).all()
    diverged = run_tabular(P, mu, 1.0, [Magnetic(1e308)], iterations=3)
    assert not diverged.converged.any()


def test_float32_runs_reach_what_float32_holds():
    P, mu = games()
    sweep = run_tabular(P.float(), mu.float(), 0.1, ["exact"], iterations=2)
    assert sweep.log_pi.dtype == torch.float32
    assert sweep.converged.all()
    assert float(sweep.certificate.max()) < 1e-9


def test_bad_input():
    P, mu = games()
    for change, message in (
        ({"log_mu": mu.exp()}, "log_mu .*at most 0"),
        ({"log_mu": mu[:2]}, r"log_mu \[2, 4\]"),
        ({"P": P[None]}, r"P has shape \[1, 3, 4, 4\]"),
        ({"P": P.tolist()}, "P is of type list"),
        ({"taus": "a"}, "taus='a'"),
        ({"taus": []}, "one tau"),
        ({"seeds": []}, "one tau, seed"),
        ({"methods": "nash-md"}, "list of methods"),
        ({"record": [11], "iterations": 10}, "record=11 lies outside"),
    ):
        with pytest.raises(InputError, match=message):
            run_tabular(**({"P": P, "log_mu": mu} | change))
    with pytest.raises(InputError, match="iterations=0"):
        run_tabular(P, mu, iterations=0)
    with pytest.raises(InputError, match="'dpo' is unknown"):
        run_tabular(P, mu, methods=["dpo"])
    with pytest.raises(InputError, match="tau"):
        run_tabular(P, mu, taus=[0.1, 0.0])
