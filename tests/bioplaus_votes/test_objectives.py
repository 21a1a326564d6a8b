"""Objectives in the training loop: the update against autograd, and what is learnt."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bioplaus import AsymEP, History, VectorFieldEP, fit
from bioplaus.config import LoopConfig
from bioplaus.errors import InputError
from bioplaus.sharding import Shards
from bioplaus.training.additions import Additions
from bioplaus_votes import RLHF, NashMD, Policy, SelfPlay, TableJudge, VoteJudge, cyclic
from bioplaus_votes.measuring import autograd_update, cosine, relative_error
from bioplaus_votes.objectives import ALGORITHMS
from bridge.distributed import Group
from bridge.optim import Optimizer
from bridge.runlog import read_run
from tests import voting_zoo as zoo

FAST: dict[str, Any] = {"batch_size": 10, "settling": zoo.GOOD, "learning_rate": 0.01}
MANY = zoo.contexts(copies=120)
"""Sixty updates an epoch: what an epoch measures takes longer than its updates."""


def pupil(objective: Any, estimator: Any = None, **config: Any) -> Any:
    """What a run passes to an objective once it has begun."""
    net, settings, data = zoo.field(), LoopConfig(**config), zoo.contexts()
    run = SimpleNamespace(
        config=settings,
        dataset=data,
        field=net,
        estimator=estimator or AsymEP(beta=1e-3, settling=zoo.TIGHT),
        more=Additions(settings, data, net, zoo.TIGHT, None, has_targets=False),
        optimizer=Optimizer(net.parameters, learning_rate=0.1),
        shards=Shards(net, 1, Group()),
    )
    objective.check(net, run.dataset)
    objective.begin(run)
    return run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_update_is_that_of_autograd(name: str) -> None:
    objective = ALGORITHMS[name](zoo.random_table(5, 5), tau=0.1)
    run, rows = pupil(objective), torch.arange(8)
    x, slope, cost = objective.example(run, rows)
    truth = autograd_update(run.field, x, slope, cost, zoo.TIGHT)
    found = objective.estimate(run, rows).updates
    assert cosine(found, truth) > 1 - 1e-9
    assert relative_error(found, truth) < 2e-5


def test_the_weight_of_the_reference_falls_to_tau_halfway() -> None:
    objective = NashMD(zoo.random_table(5, 5), tau=0.1)
    run = pupil(objective, epochs=4, batch_size=len(zoo.contexts().train) // 5)
    found = []
    for steps in range(21):  # of 20 updates
        run.optimizer.steps = steps
        found.append(objective.tau_at(run))
    assert found[0] == pytest.approx(0.5)
    assert found[5] == pytest.approx(0.05**0.5)
    assert found[10:] == pytest.approx([0.1] * 11)
    assert all(a / b == pytest.approx(5**0.1) for a, b in itertools.pairwise(found[:11]))


def test_more_epochs_that_would_change_the_weight_of_the_reference_are_refused(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run.h5"

    def trained(epochs: int, start: float, **options: Any) -> History:
        objective = NashMD(cyclic(5), tau=0.05, tau_start=start)
        given = {"objective": objective, "out": out, "schedule": "constant", "batch_size": 4}
        return fit(zoo.field(), zoo.contexts(), epochs=epochs, **given, **options)

    trained(1, 0.5)
    with pytest.raises(InputError, match=r"tau_start=0\.5 depends on .* reschedule=True"):
        trained(2, 0.5, resume=True)
    assert [row.epoch for row in trained(2, 0.5, resume=True, reschedule=True).rows] == [1, 2]
    trained(1, 0.05, overwrite=True)
    assert [row.epoch for row in trained(2, 0.05, resume=True).rows] == [1, 2]


def test_the_weight_of_the_reference_is_that_of_the_update() -> None:
    table, rows = zoo.random_table(5, 5), torch.arange(8)
    start, later = (NashMD(table, tau=0.1, tau_start=start) for start in (0.7, 0.1))
    now, constant = NashMD(table, tau=0.7, tau_start=0.7), pupil(later)
    first = start.estimate(pupil(start), rows).updates
    assert relative_error(first, now.estimate(pupil(now), rows).updates) < 1e-12
    assert relative_error(first, later.estimate(constant, rows).updates) > 0.1


def test_the_plain_rule_is_far_from_autograd() -> None:
    objective = NashMD(zoo.random_table(5, 5), tau=0.1)
    run, rows = pupil(objective, VectorFieldEP(beta=1e-3, settling=zoo.TIGHT)), torch.arange(8)
    truth = autograd_update(run.field, *objective.example(run, rows), zoo.TIGHT)
    assert cosine(objective.estimate(run, rows).updates, truth) < 0.9


def test_many_votes_give_the_exact_update() -> None:
    table = zoo.random_table(5, 5)
    exact, voted = NashMD(table, tau=0.1), NashMD(table, tau=0.1, votes=200_000)
    rows = torch.arange(5)
    truth = exact.estimate(pupil(exact), rows).updates
    found = voted.estimate(pupil(voted), rows).updates
    assert relative_error(found, truth) < 0.05
    assert voted.cast == 1_000_000


@pytest.mark.parametrize("votes", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("penalty", ["summed", pytest.param("sampled", marks=pytest.mark.slow)])
def test_votes_teach(votes: int, penalty: str) -> None:
    objective = NashMD(cyclic(5), tau=0.05, votes=votes, penalty=penalty)
    history = fit(zoo.field(), MANY, objective=objective, epochs=2, **FAST)
    assert history.rows[-1].exploitability < 0.2
    assert history.rows[-1].votes == 2 * 600 * votes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nash-md", "self-play", "extragradient", "nash-ema"])
def test_what_seeks_an_equilibrium_comes_near_it(name: str) -> None:
    own = {"nash-md": {"mixture": 0.02}, "nash-ema": {"rate": 0.5}}.get(name, {})
    objective = ALGORITHMS[name](cyclic(5), tau=0.1, **own)
    history = fit(zoo.field(), MANY, objective=objective, epochs=4, **FAST)
    last = history.rows[-1]
    assert last.kl_to_equilibrium < 0.01
    assert last.regularised_gap < 0.01
    assert last.support_mass == pytest.approx(1.0, abs=1e-3)
    assert last.gradient_cosine > 0.99


@pytest.mark.slow
def test_rlhf_comes_to_the_policy_of_its_reward_and_not_to_the_equilibrium() -> None:
    objective = RLHF(cyclic(5), tau=0.1)
    history = fit(zoo.field(), MANY, objective=objective, epochs=4, **FAST)
    assert objective.solved is not None
    bounds = {name: float(value.mean()) for name, value in objective.solved.bounds.items()}
    assert history.rows[-1].exploitability == pytest.approx(bounds["rlhf"], abs=0.01)
    assert bounds["rlhf"] > bounds["equilibrium"] + 0.01


def test_rlhf_fits_its_reward_to_votes_where_there_are_some() -> None:
    objective = RLHF(cyclic(5), tau=0.1, votes=300)
    run = pupil(objective)
    assert objective.cast == 20 * 300
    few = objective.example(run, torch.arange(5))[1]
    whole = RLHF(cyclic(5), tau=0.1)
    exact = whole.example(pupil(whole), torch.arange(5))[1]
    assert float((few - exact).abs().max()) < 0.02


@pytest.mark.slow
def test_a_judge_that_can_only_be_asked_teaches_too(tmp_path: Path) -> None:
    P = cyclic(5).P

    def ask(context: Any, first: Any, second: Any, generator: Any = None) -> Any:
        return torch.bernoulli(P[context, first, second], generator=generator)

    judge = VoteJudge(ask, tuple("abcde"), tuple("01234"))
    net = zoo.field()
    out = tmp_path / "run.h5"
    history = fit(net, MANY, objective=NashMD(judge, votes=4), epochs=2, out=out, **FAST)
    assert json.loads(read_run(out).meta["headline"])["metric"] == "epochs/win_rate"
    assert history.rows[-1].exploitability != history.rows[-1].exploitability  # not known: NaN
    pi = Policy(net).log_prob(zoo.contexts().test.inputs).exp()
    for c in range(5):
        assert float(pi[c, [c, (c + 1) % 5, (c + 2) % 5]].sum()) > 0.7


@pytest.mark.slow
def test_a_game_for_each_input() -> None:
    P = cyclic(5).P
    patterns = zoo.contexts().test.inputs

    def of_inputs(x: Any) -> Any:
        return P[torch.cdist(x.double(), patterns).argmin(1)]

    history = fit(zoo.field(), MANY, objective=NashMD(of_inputs), epochs=2, **FAST)
    same = fit(zoo.field(), MANY, objective=NashMD(cyclic(5)), epochs=2, **FAST)
    assert history.rows[-1].exploitability == pytest.approx(same.rows[-1].exploitability)


@pytest.mark.slow
def test_a_resumed_fit_is_an_uninterrupted_one(tmp_path: Path) -> None:
    def objective() -> Any:
        return ALGORITHMS["nash-ema"](cyclic(5), votes=2, baseline="learned", rate=0.1)

    def stop(row: Any) -> None:
        if row.epoch == 3:
            raise KeyboardInterrupt

    whole = fit(zoo.field(), zoo.contexts(), objective=objective(), epochs=6, **FAST)
    out = tmp_path / "v.h5"
    common = {"epochs": 6, "out": out, "checkpoint_every": 1, **FAST}
    cut = fit(zoo.field(), zoo.contexts(), objective=objective(), callbacks=stop, **common)
    assert cut.status == "stopped"
    rest = fit(zoo.field(), zoo.contexts(), objective=objective(), resume=True, **common)
    for one, other in zip(whole.rows, rest.rows, strict=True):
        left = {"seconds": 0.0, "images_per_second": 0.0}
        assert dataclasses.replace(one, **left) == dataclasses.replace(other, **left)
    assert read_run(out).config["objective"]["name"] == "nash-ema"


def test_gradient_checks_run_on_the_way() -> None:
    objective = SelfPlay(cyclic(5), tau=0.1, votes=3)
    settings = {"check_gradients_every": 2, "check_rows": 5, "epochs": 2, **FAST}
    history = fit(zoo.field(), zoo.contexts(), objective=objective, **settings)
    checked = [row for row in history.checks if row.parameter == "all"]
    assert len(checked) == 2
    plain = fit(zoo.field(), zoo.contexts(), objective=SelfPlay(cyclic(5), tau=0.1, votes=3),
                epochs=2, **FAST)  # fmt: skip
    assert history.rows[-1].exploitability == plain.rows[-1].exploitability


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tau": 0}, ["tau=0", "> 0"]),
        ({"tau": float("nan")}, ["tau=nan"]),
        ({"votes": -1}, ["votes=-1", "0 is exact"]),
        ({"votes": 1.5}, ["votes=1.5"]),
        ({"votes": 1, "baseline": "leave-one-out"}, ["leave-one-out", "votes=1", "2 or more"]),
        ({"baseline": "critic"}, ["critic", "learned"]),
        ({"geometry": "flat"}, ["flat", "natural"]),
        ({"mixture": 1.5}, ["mixture=1.5", "[0, 1]"]),
        ({"reference": [0.5, 0.5]}, ["reference", "[5]"]),
        ({"reference": [0.5, 0.5, 0.5, 0, 0]}, ["reference", "1.5"]),
        ({"judge": torch.full((5, 5, 5), 0.7)}, ["not antisymmetric", "symmetrise"]),
        ({"judge": torch.full((5, 4, 4), 0.5)}, ["4 answers", "n_output=5"]),
        ({"judge": torch.full((2, 5, 5), 0.5)}, ["2 contexts", "5 labels"]),
        ({"judge": 3}, ["judge is int"]),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], words: list[str]) -> None:
    judge = settings.pop("judge", cyclic(5))
    with pytest.raises(InputError) as refusal:
        fit(zoo.field(), zoo.contexts(), objective=NashMD(judge, **settings), epochs=1, **FAST)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_fit_refuses_a_cost_beside_an_objective_and_what_is_none() -> None:
    with pytest.raises(InputError, match="leave one out"):
        fit(zoo.field(), zoo.contexts(), objective=NashMD(cyclic(5)), cost="squared-error")
    with pytest.raises(InputError, match="objective is str"):
        fit(zoo.field(), zoo.contexts(), objective="nash-md")  # type: ignore[arg-type]


def test_a_policy_gives_log_probabilities_and_samples() -> None:
    net, data = zoo.field(), zoo.contexts()
    policy, x = Policy(net), data.test.inputs
    found = policy.log_prob(x)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(policy.log_prob(x, [0, 1, 2, 3, 4]), found.diagonal())
    drawn = policy.sample(x, 20_000, seed=1)
    share = torch.stack([torch.bincount(row, minlength=5) for row in drawn]) / 20_000
    assert float((share - found.exp()).abs().max()) < 0.02
    assert torch.equal(policy.sample(x, seed=3), policy.sample(x, seed=3))
    with pytest.raises(InputError, match="0 to 4"):
        policy.log_prob(x, [0, 1, 2, 3, 5])
    with pytest.raises(InputError, match="n=0"):
        policy.sample(x, 0)


def test_tables_keep_their_names() -> None:
    judge = TableJudge(zoo.random_table(2, 3), answers="xyz", contexts=("wet", "dry"))
    assert (judge.answers, judge.contexts) == (("x", "y", "z"), ("wet", "dry"))
    with pytest.raises(InputError, match="are named"):
        TableJudge(zoo.random_table(2, 3), answers="xy")
