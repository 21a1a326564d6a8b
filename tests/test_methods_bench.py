"""The benchmark of methods on a small scale: it runs, it is exact, and TRL's loss is biased."""

import json
import re

import pytest
import torch
from click.testing import CliRunner

from experiments.method_arms import ARMS, PLAIN
from experiments.methods import main, objective_of, preference, sampled_by, world
from experiments.published_trainer import bias, published_loss
from nlhf.language.objectives import OBJECTIVES, Sampled

pytest.importorskip("transformers")


@pytest.mark.slow
def test_a_reduced_bench_prints_its_tables_and_goes_on(tmp_path):
    args = ["--methods", "inpo,sppo,trl-full", "--sizes", "3", "--seeds", "1", "--untuned"]
    args += ["--answers", "1920", "--processes", "1", "--out", str(tmp_path)]
    args += ["--figure", str(tmp_path / "methods.png")]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    rows = re.findall(r"^\| ([a-z-]+) \|(.*)\|$", result.output, re.MULTILINE)
    # those that play the plain game have a table of their own
    assert [name for name, _ in rows if name in ARMS] == ["inpo", "trl-full", "sppo"] * 2
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")
    done = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert len(done) == 6
    for each in done:
        assert each["course"][-1][0] == 1920 == len(each["course"][1:]) * 240
        if each["kind"] == "transitive":
            measure = 3 if each["method"] in PLAIN else 1
            assert each["course"][-1][measure] < 0.4 * each["course"][0][measure]
    again = CliRunner().invoke(main, args)
    assert again.exit_code == 0
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 6
    assert re.findall(r"^\| .*$", again.output, re.M) == re.findall(r"^\| .*$", result.output, re.M)


def test_an_unknown_method_is_named():
    result = CliRunner().invoke(main, ["--methods", "inpo,ppo"])
    assert result.exit_code == 2
    assert "--methods ppo is unknown; use nash-md" in result.output


def test_every_objective_has_its_row_and_samples_as_said():
    assert {arm.objective for arm in ARMS.values()} == {*OBJECTIVES, "published"}
    for name in ARMS:
        settings = {**ARMS[name].paper}
        objective, _ = objective_of(name, settings, 20)
        plan = objective.plan(0)
        counted = sum(each.count for each in (*plan.scored, *plan.opponents))
        counted += sum(each.count for each in plan.scored) if plan.follow else 0
        counted *= 2 if name == "extragradient" else 1
        assert sampled_by(name) == counted, name


def test_preferences_are_cyclic_and_transitive():
    for seed in range(3):
        P = preference("transitive", 9, seed)
        odds = torch.logit(P)
        torch.testing.assert_close(odds[:, :1] + odds[:1], odds, atol=1e-9, rtol=0)
        P = preference("cyclic", 9, seed)
        torch.testing.assert_close(P + P.T, torch.ones_like(P))
        assert (P - 0.5 * torch.eye(9) > 0.5).any(1).all()  # each beats some
        assert (P.max(0).values > 0.7).all()  # and none is safe


def test_the_public_loss_is_by_hand_and_biased_where_answers_are_long():
    log_pi = torch.tensor([[[-0.5, -1.0]]], dtype=torch.float64, requires_grad=True)
    log_mu = torch.tensor([[[-0.7, -0.4]]], dtype=torch.float64)
    reward = torch.tensor([[0.9]], dtype=torch.float64)
    loss = published_loss(Sampled(log_pi, log_mu, torch.ones_like(log_mu), reward), 0.1)
    (slope,) = torch.autograd.grad(loss, [log_pi])
    # each token has its own log-ratio alone: .2 and -.6
    expected = [[[-(0.9 - 0.5 - 0.1 * 0.2), -(0.9 - 0.5 + 0.1 * 0.6)]]]
    torch.testing.assert_close(slope.tolist(), expected)
    errors = {}
    for size in (3, 9):
        place = world("cyclic", size, 0)
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in place.policy.trainable().values():
                p += 0.2 * torch.randn(p.shape, generator=g)
        for lora in (False, True):
            given = (place.policy, place.language, place.game.P, 0.1, 0.5, lora)
            error, entry = bias(*given)
            errors[size, lora] = error / entry
    assert errors[3, False] < 1e-5  # one token: there is no later one
    assert errors[9, False] > 0.03
    assert min(errors[3, True], errors[9, True]) > 0.1
