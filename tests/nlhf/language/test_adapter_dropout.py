"""Dropout of an adapter's inputs: in the gradient's pass alone, and as torch and peft drop."""

import json

import pytest
import torch

from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.checkpointing import checkpoint_layers
from nlhf.language.evaluation import evaluate
from nlhf.language.loading import load_policy, quiet
from nlhf.language.saving import save_policy
from nlhf.language.scoring import score
from tests.architectures import make_model
from tests.command_line import refused
from tests.nlhf.language.running import files, nash
from tests.policies import PROMPTS, make_policy
from tests.trainers import make_trainer

pytest.importorskip("peft")
__all__ = ["files"]


def dropping(p=0.5, seed=7, policy=None):
    policy = policy or make_policy("lora")
    policy.drop_inputs(p, torch.Generator().manual_seed(seed))
    return policy


def scores(policy, **more):
    prompts = policy.encode(PROMPTS)
    tokens, mask = policy.encode_answers(["a b", "c", "e e", "d a"])
    return score(policy, prompts, tokens, mask, **more).log_prob


def updates(policy):
    trainer = make_trainer(policy, length=3)
    return trainer.estimate(trainer.objective.plan(0))[0]


def test_only_a_pass_for_a_gradient_drops():
    whole, policy = make_policy("lora"), dropping()
    with torch.no_grad():
        torch.testing.assert_close(scores(policy), scores(whole), rtol=0, atol=0)
    torch.testing.assert_close(
        scores(policy, reference=True), scores(whole, reference=True), rtol=0, atol=0
    )
    assert float((scores(policy) - scores(whole)).detach().abs().max()) > 0.1
    held_out = (trainer.rollout for trainer in map(make_trainer, (whole, policy)))
    assert evaluate(next(held_out), PROMPTS, 2, 0, 1) == evaluate(next(held_out), PROMPTS, 2, 0, 1)
    assert not any(module.training for module in policy.model.modules())


def test_it_is_what_peft_computes_while_it_trains():
    policy, theirs = dropping(0.3), make_policy("lora")
    seed = int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(7)))
    for module in theirs.model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = torch.nn.Dropout(0.3).train()
    mine = scores(policy)
    torch.manual_seed(seed)
    torch.testing.assert_close(mine, scores(theirs), rtol=0, atol=0)


def test_every_pass_drops_anew_and_the_global_generators_stay():
    policy = dropping()
    before = torch.random.get_rng_state()
    first, second = scores(policy), scores(policy)
    assert torch.equal(before, torch.random.get_rng_state())
    assert float((first - second).detach().abs().max()) > 0.1
    assert torch.equal(scores(dropping()), first)
    assert not torch.equal(scores(dropping(seed=8)), first)


def test_a_share_p_is_dropped_and_the_others_keep_the_mean():
    policy, seen = dropping(0.25), []
    layer = next(m for m in policy.model.modules() if hasattr(m, "lora_dropout"))
    drop = layer.lora_dropout["default"]
    drop.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    for _ in range(40):
        scores(policy)
    given, out = (torch.cat([pair[i].detach().flatten() for pair in seen]) for i in (0, 1))
    kept = out != 0
    share, n = float((~kept).double().mean()), len(kept)
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5
    torch.testing.assert_close(out[kept], given[kept] / 0.75)


def test_processes_of_a_step_drop_differently_and_advance_alike():
    one, two = make_policy("lora"), make_policy("lora")
    for rank, policy in enumerate((one, two)):
        share = {"processes": 2, "part": lambda seeds, rank=rank: seeds[rank : rank + 1]}
        policy.drop_inputs(0.5, torch.Generator().manual_seed(7), **share)
    assert not torch.equal(scores(one), scores(two))
    assert torch.equal(one.dropout.state(), two.dropout.state())


def test_recomputed_layers_drop_what_they_dropped():
    policy = dropping()
    checkpoint_layers(policy)
    plain, again = updates(dropping()), updates(policy)
    none = updates(make_policy("lora"))
    # the layers of a policy that recomputes see each prompt once per answer
    assert plain.keys() == again.keys()
    shared = dropping()
    shared.shares = False
    plain = updates(shared)
    for name, update in plain.items():
        torch.testing.assert_close(again[name], update, atol=1e-9, rtol=1e-6)
    assert any(float((plain[name] - none[name]).abs().max()) > 1e-3 for name in plain)


def test_a_loaded_adapter_drops_too_and_is_saved_with_its_probability(tmp_path):
    torch.manual_seed(0)
    base = load_policy("tiny:a,b,c,<end>", reference=False)
    save_policy(base, tmp_path / "base", {})
    adapted = load_policy(str(tmp_path / "base"), lora=Lora(2))
    adapted.drop_inputs(0.1, torch.Generator())
    save_policy(adapted, tmp_path / "adapter", {})
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["lora_dropout"] == 0.1
    again = load_policy(str(tmp_path / "adapter"))
    assert again.dropout is None  # what it was trained with is no setting of this run
    again.drop_inputs(0.4, torch.Generator())
    drops = [m.p for m in again.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert drops
    assert {p for p in drops if p} == {0.4}


def test_an_adapter_keeps_its_rank(tmp_path):
    policy = make_policy("lora", dtype=torch.float32)
    policy.name = "elsewhere"
    policy.model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    save_policy(load_policy("tiny:a,b,c,d,e,<end>", reference=False), tmp_path / "base", {})
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    path.write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"is an adapter, which is trained further .* lora.rank"):
        load_policy(str(tmp_path / "adapter"), lora=Lora(8))


def test_what_has_no_inputs_is_refused():
    with pytest.raises(InputError, match=r"lora\.dropout=0\.1 drops inputs of an adapter.*rank"):
        make_policy().drop_inputs(0.1, torch.Generator())
    with pytest.raises(InputError, match=r"lora\.dropout=1 must lie between"):
        make_policy("lora").drop_inputs(1.0, torch.Generator())
    peft = pytest.importorskip("peft")
    with quiet():
        settings = peft.LoraConfig(r=2, target_parameters=["mlp.experts.down_proj"])
        experts = peft.get_peft_model(make_model("mixtral"), settings)
    policy = make_policy("lora")
    policy.model = experts
    with pytest.raises(InputError, match=r"cannot act on .*experts.* changes a weight"):
        policy.drop_inputs(0.1, torch.Generator())


def test_a_run_with_it(files):
    done = nash("--set", "lora.rank=2", "--set", "lora.dropout=0.3", "--save", "with")
    assert done.exit_code == 0, done.output
    done = nash("--set", "lora.rank=2", "--save", "without", out="s.h5")
    assert done.exit_code == 0, done.output
    drop, whole = (load_policy(name).model.state_dict() for name in ("with", "without"))
    assert any(not torch.equal(drop[name], whole[name]) for name in whole)
    assert refused(
        nash("--set", "lora.dropout=0.3", out="t.h5"), "lora.dropout=0.3", "give lora.rank too"
    )
    assert refused(nash("--set", "lora.dropout=1", out="t.h5"), "lora.dropout", "1")
