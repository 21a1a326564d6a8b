"""What training may be asked for beside its method: each against what it should be."""

import copy
import sys

import pytest
import torch

from bridge.runlog import read_run
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.checkpointing import checkpoint_layers
from nlhf.language.cuts import seen_in, truncated
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.evaluation import evaluate
from nlhf.language.judging import FunctionJudge
from nlhf.language.loading import load_policy
from nlhf.language.objectives import OBJECTIVES, Draw, Plan
from nlhf.language.objectives.base import MIXTURE
from nlhf.language.scoring import score
from tests.command_line import refused
from tests.nlhf.language.running import files, nash
from tests.policies import make_policy
from tests.trainers import longer_wins, make_trainer

__all__ = ["files"]

END = 5  # of WORDS in tests.policies


def answers(policy, sampling, own=6, mixed=6, weight=0.5, prompts=("a b", "c")):
    encoded = policy.encode(list(prompts))
    rows = len(prompts) * (own + mixed)
    u = draw_uniforms(rows, sampling.max_new_tokens, torch.Generator().manual_seed(3))
    return encoded, decode(policy, encoded, own, mixed, weight, sampling, u)


# ------------------------------------------------------------------------- minimum length


def test_no_answer_ends_before_its_minimum_and_scores_say_so_too():
    policy = make_policy()
    policy.shortest = 3
    encoded, found = answers(policy, Sampling(4), own=40, mixed=40)
    assert (found.mask.sum(1) >= 4 - 1).all()
    assert not (found.tokens[:, :3] == END).any()
    assert (found.tokens[:, 3] == END).any()
    own = slice(0, 80)
    index = torch.arange(2).repeat_interleave(40)
    for reference, logs in ((False, found.log_pi), (True, found.log_mu)):
        rows = own if not reference else slice(80, 160)
        scored = score(
            policy,
            encoded,
            found.tokens[rows],
            found.mask[rows],
            index=index,
            reference=reference,
        )
        torch.testing.assert_close(scored.log_prob, logs[rows], atol=1e-5, rtol=0)
        total = scored.log_all[:, :3].exp()
        assert (total[..., END] == 0).all()
        torch.testing.assert_close(total.sum(-1), torch.ones_like(total[..., 0]))


def test_a_step_with_a_minimum_and_whole_divergences_is_finite():
    policy = make_policy()
    policy.shortest = 1
    trainer = make_trainer(policy, kl="full", length=3)
    measures = [trainer.step() for _ in range(3)]
    assert all(m["loss"] == m["loss"] and m["grad_norm"] < 100 for m in measures)


# ------------------------------------------------------------------------------------ cuts


def test_min_p_keeps_what_is_likely_enough():
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    kept = [torch.isfinite(truncated(p.log(), None, None, least)) for least in (0.3, 0.31, 0.05)]
    assert [k[0].tolist() for k in kept] == [
        [True, True, True, False],
        [True, True, False, False],
        [True, True, True, True],
    ]
    both = torch.isfinite(truncated(p.log(), 2, None, 0.1))[0].tolist()
    assert both == [True, True, False, False]


def test_seen_tokens_are_those_of_the_prompt_not_of_its_padding():
    policy = make_policy()
    encoded = policy.encode(["a b", "c"])
    seen = seen_in(encoded, 6)
    assert seen.tolist() == [
        [True, True, False, False, False, False],
        [False, False, True, False, False, False],
    ]


def test_the_penalty_makes_the_mixture_repeat_less_and_leaves_the_policy_alone():
    policy = make_policy()
    plain = answers(policy, Sampling(4), own=100, mixed=100, prompts=("a",))[1]
    hard = answers(
        policy, Sampling(4, repetition_penalty=50.0), own=100, mixed=100, prompts=("a",)
    )[1]
    assert torch.equal(plain.tokens[:100], hard.tokens[:100])

    def repeats(found):
        rows = zip(found.tokens[100:].tolist(), found.mask[100:].tolist(), strict=True)
        said = ([t for t, m in zip(*row, strict=True) if m] for row in rows)
        return sum(len({0, *row}) < len(row) + 1 for row in said)  # 0 is the prompt's

    assert repeats(plain) > 50
    assert repeats(hard) < 10


@pytest.mark.parametrize(
    ("more", "told"),
    [({"min_p": 0.0}, "min_p=0.0"), ({"repetition_penalty": 0.0}, "repetition_penalty=0.0")],
)
def test_cuts_out_of_range(more, told):
    with pytest.raises(InputError, match=told):
        Sampling(4, **more)


# ------------------------------------------------------------------------ missing-end penalty


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n != "rlhf"])
def test_an_answer_that_does_not_end_loses_and_the_game_stays_one(name):
    even = FunctionJudge(lambda prompts, a, b: torch.full((len(a),), 0.5), "even")
    more = {} if name == "xpo" else {"samples": 4}
    trainer = make_trainer(make_policy(), even, name=name, length=2, **more)
    trainer.batching = type(trainer.batching)(4, missing_end=0.2)
    plan = trainer.objective.plan(0)
    held = {"ahead": dict(trainer.policy.trainable())}
    batch = trainer.sample(plan, held)
    n = len(batch.own.ended) // 4
    mine = 0.2 * (~batch.own.ended).double().reshape(4, n)
    if plan.asks == "pairs":
        expected = 0.5 - mine[:, :, None] + mine[:, None]
        torch.testing.assert_close(batch.preference + batch.preference.mT, 2 * expected * 0 + 1)
    elif plan.follow:
        theirs = 0.2 * (~batch.other.ended).double().reshape(4, n, -1)
        expected = 0.5 - mine[:, :, None] + theirs
    else:
        theirs = 0.2 * (~batch.other.ended).double().reshape(4, 1, -1)
        expected = 0.5 - mine[:, :, None] + theirs
    torch.testing.assert_close(batch.preference, expected.expand_as(batch.preference))
    assert (batch.preference != 0.5).any()


def test_a_reward_without_an_end_is_less():
    judge = FunctionJudge(longer_wins, "longer")
    judge.reward = lambda prompts, y: torch.tensor([float(len(a)) for a in y])
    trainer = make_trainer(make_policy(), judge, name="rlhf", samples=4)
    trainer.batching = type(trainer.batching)(4, missing_end=3.0)
    batch = trainer.sample(trainer.objective.plan(0))
    texts = trainer.policy.texts(batch.own.tokens, batch.own.mask)
    plain = torch.tensor([float(len(a)) for a in texts]).reshape(4, 4)
    cost = 3.0 * (~batch.own.ended).reshape(4, 4)
    torch.testing.assert_close(batch.reward, (plain - cost).to(batch.reward))


# ---------------------------------------------------------------------- gradient checkpointing


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_checkpointed_gradients_are_the_same(kind):
    def updates(checkpointed):
        policy = make_policy(kind)
        if checkpointed:
            checkpoint_layers(policy)
            assert len(policy.checkpointed) >= 2
        trainer = make_trainer(policy, length=3)
        return trainer.estimate(trainer.objective.plan(0))[0], policy

    plain, _ = updates(False)
    again, policy = updates(True)
    for name, update in plain.items():
        torch.testing.assert_close(again[name], update, atol=1e-6, rtol=1e-4)
    assert not any(module.training for module in policy.model.modules())


def test_checkpointed_layers_are_run_again_for_the_gradient_only():
    policy = make_policy()
    checkpoint_layers(policy)
    calls = []
    mlp = policy.checkpointed[0].mlp
    mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    trainer = make_trainer(policy)
    batch = trainer.sample(trainer.objective.plan(0))
    calls.clear()
    loss, _ = trainer.loss(batch)
    forward = list(calls)
    loss.backward()
    assert forward == [True]
    assert calls == [True, True]  # once more on the way back


def test_a_layer_s_own_dropout_stays_off():
    policy = make_policy()
    checkpoint_layers(policy)
    seen = []
    layer = policy.checkpointed[0]
    layer.mlp.register_forward_hook(lambda *_: seen.append(layer.training))
    trainer = make_trainer(policy)
    trainer.step()
    assert seen
    assert not any(seen)


# ------------------------------------------------------------------------------- truncation


def test_long_prompts_are_cut_at_the_end_that_was_chosen():
    policy = make_policy()
    ids = policy.prompt_tokens("a b c d")
    policy.prompt_room = 2
    for keeps, expected in (("end", ids[-2:]), ("start", ids[:2]), ("refuse", ids)):
        policy.keeps = keeps
        assert policy.encode(["a b c d"]).ids.tolist() == [expected]
    with pytest.raises(InputError, match="prompt 1 has 4 tokens, and max_prompt_tokens=2"):
        policy.check_room(["a b c d"], 2, "p.jsonl")
    policy.keeps = "end"
    policy.context = 4
    policy.check_room(["a b c d"], 2, "p.jsonl")


# ------------------------------------------------------------------------------ evaluations


def test_evaluations_draw_alike_and_disturb_nothing():
    trainer = make_trainer(make_policy())
    before = trainer.draws.get_state(), trainer.order.get_state()
    first = evaluate(trainer.rollout, ["a", "b c"], 3, 0, 5)
    assert first == evaluate(trainer.rollout, ["a", "b c"], 3, 0, 5)
    assert first != evaluate(trainer.rollout, ["a", "b c"], 3, 0, 6)
    assert torch.equal(before[0], trainer.draws.get_state())
    assert torch.equal(before[1], trainer.order.get_state())


def test_an_evaluation_is_the_mean_over_prompts():
    trainer = make_trainer(make_policy())
    prompts = ["a", "b c", "c", "d"] * 5  # more than one pass
    found = evaluate(trainer.rollout, prompts, 2, 7, 1)
    assert (found.step, found.prompts) == (7, 20)
    g, wins, kls = torch.Generator().manual_seed(1), [], []
    plan = Plan((Draw(2),), (Draw(2, MIXTURE, 1.0),))
    for some in (prompts[:16], prompts[16:]):
        batch = trainer.rollout.sample(
            plan, some, {}, lambda rows, n=some: draw_uniforms(len(n) * rows, 2, g)
        )
        wins += batch.preference.mean((1, 2)).tolist()
        kls += trainer.rollout.score(batch, {}).kl.mean(1).tolist()
    mean = sum(wins) / 20
    assert found.win_rate == pytest.approx(mean)
    spread = sum((w - mean) ** 2 for w in wins) / 19 / 20
    assert found.win_rate_error == pytest.approx(spread**0.5)
    assert found.above_half == sum(w > 0.5 for w in wins) / 20
    assert found.objective_kl == pytest.approx(sum(kls) / 20)


def test_a_run_with_all_of_them(files):
    sets = ["eval_prompts=held.jsonl", "eval_every=2", "report_to=['tensorboard']"]
    sets += ["missing_end_penalty=0.2", "generation.min_new_tokens=1", "generation.min_p=0.05"]
    sets += ["generation.repetition_penalty=1.2", "max_prompt_tokens=2", "truncate=left"]
    sets += ["gradient_checkpointing=true"]
    done = nash(*(part for each in sets for part in ("--set", each)))
    assert done.exit_code == 0, done.output
    table = read_run("r.h5").table("evaluation")
    assert table["step"].tolist() == [0, 2, 3]
    assert table["win_rate"][0] == pytest.approx(0.5, abs=0.3)
    assert (table["objective_kl"] >= 0).all()
    (events,) = (files / "r.tensorboard").iterdir()
    loaded = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = loaded.EventAccumulator(str(events))
    seen.Reload()
    assert {"metrics/loss", "evaluation/win_rate"} <= set(seen.Tags()["scalars"])
    assert [each.step for each in seen.Scalars("evaluation/win_rate")] == [0, 2, 3]
    losses = [each.value for each in seen.Scalars("metrics/loss")]
    assert losses == pytest.approx(read_run("r.h5").table("metrics")["loss"].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["eval_every=2"], ["eval_every", "without eval_prompts"]),
        (["truncate=left"], ["truncate", "without max_prompt_tokens"]),
        (["max_prompt_tokens=2"], ["prompt 2 has 4 tokens", "truncate=left"]),
        (["generation.min_new_tokens=3"], ["min_new_tokens=3 must be below max_new_tokens=3"]),
        (["eval_prompts=nowhere.jsonl"], ["nowhere.jsonl"]),
        (["report_to=['wandb']"], ["wandb is not installed", "pip install wandb"]),
        (["report_to=['comet']"], ["report_to", "tensorboard"]),
        (["push_to_hub='a b/c'"], ["push_to_hub='a b/c'"]),
        (["missing_end_penalty=-1"], ["missing_end_penalty"]),
    ],
)
def test_what_does_not_fit_is_one_line(files, monkeypatch, sets, words):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert refused(nash(*(part for each in sets for part in ("--set", each))), *words)


def test_a_minimum_without_an_end_is_refused(files):
    given = ["--model", "tiny:a,b,c", "--set", "generation.min_new_tokens=1"]
    assert refused(nash(*given), "min_new_tokens=1 has no effect on tiny:a,b,c")


def test_dropout_of_a_model_plays_no_part():
    policy = load_policy("tiny:a,b,c", lora=Lora(2))
    for module in policy.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    plain = copy.deepcopy(policy)
    checkpoint_layers(policy)
    for each in (policy, plain):
        trainer = make_trainer(each, prompts=["a", "b"])
        trainer.step()
    for name, p in plain.trainable().items():
        torch.testing.assert_close(policy.trainable()[name], p)
