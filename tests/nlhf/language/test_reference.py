"""A reference that moves, policies that objectives hold on to, and runs that go on with both."""

import pytest
import torch

from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.enumeration import enumerate_language, log_probabilities
from nlhf.language.loading import load_policy
from nlhf.language.objectives import OBJECTIVES
from nlhf.language.reference import Reference
from nlhf.language.saving import save_policy
from tests.policies import make_policy
from tests.trainers import make_trainer

SPEC = "tiny:a,b,<end>"


def tensors(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def log_mu(policy):
    language = enumerate_language(policy, "a", 2)
    return log_probabilities(policy, language, reference=True)


def test_it_jumps_every_so_many_steps_and_stays_in_between():
    policy = make_policy()
    trainer = make_trainer(policy, name="inpo", reference=Reference(every=3))
    start = tensors(policy.reference)
    for _ in range(2):
        trainer.step()
        assert same(tensors(policy.reference), start)
    trainer.step()
    third = tensors(policy.model)
    assert same(tensors(policy.reference), third)
    trainer.step()
    assert same(tensors(policy.reference), third)
    assert not same(tensors(policy.model), third)


def test_it_follows_as_a_moving_average():
    policy = make_policy()
    trainer = make_trainer(policy, reference=Reference("ema", rate=0.25))
    expected = tensors(policy.reference)
    for _ in range(3):
        trainer.step()
        now = tensors(policy.model)
        expected = {name: 0.75 * p + 0.25 * now[name] for name, p in expected.items()}
    for name, p in tensors(policy.reference).items():
        torch.testing.assert_close(p, expected[name])


def test_an_adapter_s_reference_is_its_base_until_it_jumps():
    plain = load_policy(SPEC, lora=Lora(2), dtype=torch.float64)
    policy = load_policy(SPEC, lora=Lora(2), dtype=torch.float64, own_reference=True)
    policy.model.to(torch.float64)
    torch.testing.assert_close(log_mu(policy), log_mu(plain))
    trainer = make_trainer(
        policy, prompts=["a", "b"], reference=Reference(every=2), learning_rate=5.0
    )
    trainer.step()
    torch.testing.assert_close(log_mu(policy), log_mu(plain))
    trainer.step()
    own = log_probabilities(policy, enumerate_language(policy, "a", 2)).detach()
    torch.testing.assert_close(log_mu(policy), own)
    assert (own - log_mu(plain)).abs().max() > 1e-4
    assert trainer.step()["objective_kl"] < 1e-6  # of the first answers after a jump


def test_what_cannot_move_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot move; merge the adapter"):
        make_trainer(load_policy(SPEC, lora=Lora(2)), reference=Reference(every=2))
    save_policy(load_policy(SPEC), tmp_path / "base", {"algorithm": "none"})
    save_policy(load_policy(str(tmp_path / "base"), lora=Lora(2)), tmp_path / "adapter", {})
    with pytest.raises(InputError, match="is an adapter, and its reference the base below it"):
        load_policy(str(tmp_path / "adapter"), own_reference=True)
    for bad, told in (
        (lambda: Reference("sliding"), "reference='sliding' is unknown"),
        (lambda: Reference(every=-1), "reference_every=-1"),
        (lambda: Reference("ema", rate=0.0), "reference_rate=0.0"),
        (lambda: Reference("ema", every=3), "leave out reference_every=3"),
    ):
        with pytest.raises(InputError, match=told):
            bad()


HOLDING = ["nash-ema", "sppo", "mirror-prox", "onpo", "mnpo", "comal"]


@pytest.mark.parametrize("name", HOLDING)
def test_a_run_goes_on_bit_for_bit(name):
    more = {} if name == "nash-ema" else {"anchor_every": 2}
    reference = Reference(every=3) if name == "comal" else Reference("ema", rate=0.1)

    def fresh():
        return make_trainer(make_policy(), name=name, reference=reference, **more)

    whole, first, second = fresh(), fresh(), fresh()
    expected = [whole.step() for _ in range(7)]
    for _ in range(4):
        first.step()
    state = first.state_dict()
    second.load_state_dict(state)
    # compared as text, because measures that a method lacks are NaN
    assert str([second.step() for _ in range(3)]) == str(expected[4:])
    assert same(tensors(second.policy.model), tensors(whole.policy.model))
    assert same(tensors(second.policy.reference), tensors(whole.policy.reference))


def test_mnpo_s_opponents_are_the_last_policies():
    trainer = make_trainer(make_policy(), name="mnpo", anchor_every=2, players=3)
    start = tensors(trainer.policy.model)
    seen = []
    for _ in range(4):
        trainer.step()
        seen.append(tensors(trainer.policy.model))
    assert same(trainer.held["past-0"], seen[3])
    assert same(trainer.held["past-1"], seen[1])
    trainer = make_trainer(make_policy(), name="mnpo", anchor_every=2, players=3)
    for _ in range(3):
        trainer.step()
    assert same(trainer.held["past-0"], seen[1])
    assert same(trainer.held["past-1"], start)


def test_two_phases_fit_two_policies_in_turn():
    for name, (first, second) in {
        "onpo": ("base", "played"),
        "mirror-prox": ("ahead", "anchor"),
    }.items():
        trainer = make_trainer(make_policy(), name=name, anchor_every=2)
        start = tensors(trainer.policy.model)
        for _ in range(2):
            trainer.step()
        half = tensors(trainer.policy.model)
        assert same(trainer.held[first], half)
        assert same(trainer.held[second], start)
        for _ in range(2):
            trainer.step()
        assert same(trainer.held[first], half)
        assert same(trainer.held[second], tensors(trainer.policy.model))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_steps_with_an_adapter(name):
    policy = load_policy(SPEC, lora=Lora(2))
    judged = {"judge": None}
    if name == "rlhf":
        from nlhf.language.judging import FunctionJudge
        from tests.trainers import longer_wins

        judged["judge"] = FunctionJudge(longer_wins, "longer")
        judged["judge"].reward = lambda prompts, y: torch.tensor([float(len(a)) for a in y])
    trainer = make_trainer(policy, prompts=["a", "b a"], name=name, **judged)
    before = tensors(policy.model)
    measures = [trainer.step() for _ in range(3)][-1]
    assert all(p == p for key, p in measures.items() if key in ("loss", "objective_kl"))
    moved = {n for n, p in tensors(policy.model).items() if not torch.equal(p, before[n])}
    assert moved
    assert moved <= set(policy.trainable())
