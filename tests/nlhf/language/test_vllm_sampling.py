"""Answers by vLLM: what it is handed, which rows it draws, and that they are the policy's."""

import copy
import sys
from types import ModuleType

import pytest
import torch

from bridge.runlog import read_run
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.exporting import exported
from nlhf.language.extras import EXTRAS
from nlhf.language.loading import load_policy
from nlhf.language.merging import merged
from nlhf.language.vllm_engine import Engine
from nlhf.language.vllm_sampling import start_vllm
from tests.command_line import refused
from tests.nlhf.language import standing_in_for_vllm as standing_in
from tests.nlhf.language.running import files, nash
from tests.policies import PROMPTS, make_policy
from tests.trainers import make_trainer

pytest.importorskip("peft")
__all__ = ["files"]
LENGTH = 3


@pytest.fixture
def engines(monkeypatch):
    """The stand-in in the place of vLLM, and the engines that it starts."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = standing_in.LLM, standing_in.SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    standing_in.ENGINES.clear()
    Engine._running.clear()
    yield standing_in.ENGINES
    Engine._running.clear()


def started(policy, sampling=None, prompts=PROMPTS, dtype="float32"):
    sampling = sampling or Sampling(LENGTH)
    return start_vllm(policy, prompts, sampling, Decoder(), memory=0.3, dtype=dtype)


def single(kind="full", **more):
    return make_policy(kind, dtype=torch.float32, **more)


# ---------------------------------------------------------------------- which rows it draws


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_its_answers_are_distributed_as_those_of_the_policy(engines, kind):
    policy = single(kind)
    decoder, prompts = started(policy), policy.encode(["a b"])
    n = 3000
    for reference in (False, True):
        u = draw_uniforms(n, LENGTH, torch.Generator().manual_seed(5))
        rows = (0, n, 1.0) if reference else (n, 0, 0.0)
        mine = decode(policy, prompts, *rows, Sampling(LENGTH), u)
        theirs = decoder(policy, prompts, *rows, Sampling(LENGTH), u)
        for t in range(LENGTH):
            counts = [
                torch.bincount(torch.where(each.mask[:, t], each.tokens[:, t], 6), minlength=7)
                for each in (mine, theirs)
            ]
            share = sum(counts) / (2 * n)
            error = (2 * share * (1 - share) / n).sqrt() + 1e-9
            assert ((counts[0] - counts[1]) / n / error).abs().max() < 4.5
        logs = theirs.log_mu if reference else theirs.log_pi
        blank = theirs.log_pi if reference else theirs.log_mu
        assert torch.isnan(blank[theirs.mask]).all()
        assert (blank[~theirs.mask] == 0).all()
        assert float(logs[theirs.mask].mean()) == pytest.approx(
            float((mine.log_mu if reference else mine.log_pi)[mine.mask].mean()), abs=0.06
        )
        assert torch.equal(theirs.ended, (theirs.tokens == 5).any(1))


def test_the_mixture_is_decoded_here_and_the_policy_s_rows_there(engines):
    policy = single()
    decoder, prompts = started(policy), policy.encode(PROMPTS)
    (engine,) = engines
    before = engine.requests
    u = draw_uniforms(len(PROMPTS) * 5, LENGTH, torch.Generator().manual_seed(5))
    found = decoder(policy, prompts, 2, 3, 0.25, Sampling(LENGTH), u)
    assert engine.requests - before == 2 * len(PROMPTS)
    n = 2 * len(PROMPTS)
    mixed = decode(policy, prompts, 0, 3, 0.25, Sampling(LENGTH), u[n:])
    used = mixed.tokens.shape[1]
    assert torch.equal(found.tokens[n:, :used], mixed.tokens)
    assert torch.equal(found.mask[n:, :used], mixed.mask)
    torch.testing.assert_close(found.log_mu[n:, :used], mixed.log_mu)
    assert torch.isnan(found.log_mu[:n][found.mask[:n]]).all()


def test_weights_are_copied_once_for_rows_of_one_policy(engines, monkeypatch):
    policy = single()
    decoder, prompts = started(policy), policy.encode(["a b"])
    copies = []
    take = Engine.take
    monkeypatch.setattr(Engine, "take", lambda *a, **how: (copies.append(how), take(*a, **how)))
    u = draw_uniforms(2, LENGTH, torch.Generator().manual_seed(5))
    for weight, expected in ((0.0, [False]), (1.0, [False, True]), (0.5, [False])):
        copies.clear()
        decoder(policy, prompts, 1, 1, weight, Sampling(LENGTH), u)
        assert [how["reference"] for how in copies] == expected


def test_rows_with_cuts_are_decoded_here(engines):
    policy = single()
    sampling = Sampling(LENGTH, top_k=2)
    decoder, prompts = started(policy, sampling), policy.encode(PROMPTS)
    (engine,) = engines
    u = draw_uniforms(len(PROMPTS), LENGTH, torch.Generator().manual_seed(5))
    for rows, how, by_engine in (
        ((1, 0, 0.0), sampling, True),  # the policy's own answers are never cut
        ((1, 0, 0.0), sampling.cutting_own, False),
        ((0, 1, 0.0), sampling, False),
        ((0, 1, 1.0), sampling, False),
        ((0, 1, 1.0), sampling.whole, True),
    ):
        before = engine.requests
        decoder(policy, prompts, *rows, how, u)
        assert (engine.requests > before) == by_engine


def test_the_first_number_of_a_row_seeds_its_answer(engines):
    policy = single()
    decoder, sampling = started(policy), Sampling(LENGTH)
    u = draw_uniforms(8, LENGTH, torch.Generator().manual_seed(5))
    both = decoder(policy, policy.encode(["a b", "c"]), 4, 0, 0.0, sampling, u)
    again = decoder(policy, policy.encode(["c"]), 4, 0, 0.0, sampling, u[4:])
    width = again.tokens.shape[1]
    assert torch.equal(both.tokens[4:, :width], again.tokens)
    other = decoder(policy, policy.encode(["c"]), 4, 0, 0.0, sampling, u[:4])
    assert not torch.equal(other.tokens, again.tokens)


def test_no_answer_ends_before_its_minimum(engines):
    policy = single()
    policy.shortest = 2
    decoder = started(policy)
    u = draw_uniforms(200, LENGTH, torch.Generator().manual_seed(5))
    found = decoder(policy, policy.encode(["a"]), 200, 0, 0.0, Sampling(LENGTH), u)
    assert (found.tokens[:, :2] != 5).all()
    assert (found.tokens[:, 2] == 5).any()


# ------------------------------------------------------------------------- while it learns


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("name", ["nash-md", "nash-ema", "best-response", "comal", "stackelberg"])
def test_every_answer_of_a_step_comes_from_the_weights_of_then(engines, name, kind):
    policy = single(kind)
    trainer = make_trainer(policy, name=name, length=LENGTH, learning_rate=0.5)
    trainer.decoder = started(policy, prompts=[*PROMPTS, "a b c d e a b c d e"])
    off = [trainer.step()["sampling_logp_difference"] for _ in range(3)]
    assert max(off) < 1e-5
    (engine,) = engines
    whole = merged(policy.model) if kind == "lora" else policy.model
    now = dict(engine.loaded.inner.named_parameters())
    # the optimizer has moved on since
    assert any(not torch.allclose(now[key], p) for key, p in whole.named_parameters())


def test_held_policies_draw_with_their_own_weights(engines):
    policy = single()
    trainer = make_trainer(policy, name="nash-ema", length=LENGTH, learning_rate=0.5)
    trainer.decoder = started(policy)
    trainer.step()
    (engine,) = engines
    taken = {n: p.clone() for n, p in engine.loaded.inner.named_parameters()}
    trainer.sample(trainer.objective.plan(1))
    held = trainer.held["mean"] if "mean" in trainer.held else next(iter(trainer.held.values()))
    now = dict(engine.loaded.inner.named_parameters())
    assert any(not torch.equal(taken[name], now[name]) for name in now)
    assert all(torch.equal(now[name], held[name]) for name in held)


def test_a_run_goes_on_with_the_same_answers(engines):
    def trainer():
        policy = single("lora")
        made = make_trainer(policy, length=LENGTH, learning_rate=0.1)
        made.decoder = started(policy)
        return made

    whole = trainer()
    expected = [whole.step() for _ in range(3)]
    first = trainer()
    first.step()
    state = copy.deepcopy(first.state_dict())
    second = trainer()
    second.load_state_dict(state)
    assert [second.step() for _ in range(2)] == expected[1:]


# --------------------------------------------------------------------- what it is checked for


def test_another_policy_is_noticed_at_the_start(engines, monkeypatch):
    whole = standing_in.Loaded.load_weights

    def without_the_adapter(self, weights):
        kept = dict(self.inner.named_parameters())["model.layers.0.mlp.up_proj.weight"].clone()
        names = whole(self, weights)
        with torch.no_grad():
            self.inner.model.layers[0].mlp.up_proj.weight.copy_(kept)
        return names

    monkeypatch.setattr(standing_in.Loaded, "load_weights", without_the_adapter)
    for kind in ("full", "lora"):
        with pytest.raises(InputError, match=r"computes another policy .* nats per token apart"):
            started(single(kind))


def test_a_new_adapter_is_compared_with_noise_and_stays_as_it_was(engines, monkeypatch):
    policy = load_policy("tiny:a,b,c,<end>", lora=Lora(2))  # adds nothing yet
    before = {name: p.clone() for name, p in policy.trainable().items()}
    started(policy, prompts=["a", "b"])
    assert all(torch.equal(before[name], p) for name, p in policy.trainable().items())
    real = exported

    def bases_alone(policy, *, reference=False):
        return real(policy, reference=True)

    monkeypatch.setattr("nlhf.language.vllm_engine.exported", bases_alone)
    with pytest.raises(InputError, match="computes another policy"):
        started(policy, prompts=["a", "b"])


def test_prompts_beyond_its_room_are_named(engines):
    policy = single()
    decoder = started(policy, prompts=["a"])
    u = draw_uniforms(1, LENGTH, torch.Generator())
    with pytest.raises(InputError, match=r"a prompt of 90 tokens .* vLLM has room for"):
        decoder(policy, policy.encode(["a " * 90]), 1, 0, 0.0, Sampling(LENGTH), u)


def test_classes_of_transformers_stay_as_they_are(engines, monkeypatch):
    policy = single()
    kind = type(policy.model.model)
    before = kind.__bases__, kind.__init__, kind.__dict__.get("__call__")

    class Compiled(torch.nn.Module):
        """What vLLM adds to a class that it has no model of its own for."""

    class Compiling(standing_in.LLM):
        fails = False

        def __init__(self, *given, **settings):
            super().__init__(*given, **settings)
            kind.__bases__ = (*kind.__bases__, Compiled)
            kind.__call__ = lambda module, **inputs: module.do_not_compile
            if self.fails:
                raise RuntimeError("no memory")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", Compiling)
    for told in (r"vLLM has no .*LlamaForCausalLM\) of its own", "no memory"):
        with pytest.raises(InputError, match=told):
            started(policy)
        assert (kind.__bases__, kind.__init__, kind.__dict__.get("__call__")) == before
        engines[-1].ended = Compiling.fails = True
    decode(policy, policy.encode(["a"]), 1, 0, 0.0, Sampling(1), torch.zeros(1, 1).double())


def test_a_second_run_ends_the_first_one(engines):
    policy = single()
    first, second = started(policy), started(policy)
    assert [engine.ended for engine in engines] == [True, False]
    u = draw_uniforms(1, LENGTH, torch.Generator())
    given = (policy, policy.encode(["a"]), 1, 0, 0.0, Sampling(LENGTH), u)
    with pytest.raises(InputError, match="for another run in this process"):
        first(*given)
    second(*given)


def test_the_settings_that_it_starts_with(engines):
    policy = single()
    policy.context = 50
    started(policy, prompts=["a b"])
    (engine,) = engines
    assert engine.settings["max_model_len"] == 50
    assert engine.settings["dtype"] == "float32"
    assert engine.settings["gpu_memory_utilization"] == 0.3
    assert engine.settings["logprobs_mode"] == "processed_logprobs"


# ------------------------------------------------------------------------- the command line


def test_a_run_from_the_command_line(engines, files):
    sets = ["sampler=vllm", "vllm_memory=0.4", "eval_prompts=held.jsonl", "lora.rank=2"]
    sets += ["lora.dropout=0.1", "generation.min_new_tokens=1"]
    done = nash(*(part for each in sets for part in ("--set", each)))
    assert done.exit_code == 0, done.output
    (engine,) = engines
    assert engine.settings["gpu_memory_utilization"] == 0.4
    assert engine.requests > 3 * 2 * 2
    run = read_run("r.h5")
    assert run.status == "finished"
    assert run.table("evaluation")["win_rate"][0] == pytest.approx(0.5, abs=0.5)
    plain = nash("--set", "sampler=own", out="s.h5")
    assert plain.exit_code == 0, plain.output
    assert read_run("s.h5").table("metrics")["sampling_logp_difference"].max() < 1e-5


def test_what_it_cannot_do_is_one_line(engines, files, monkeypatch):
    vllm = ["--set", "sampler=vllm"]
    assert refused(nash("--set", "vllm_memory=0.5"), "vllm_memory", "without sampler=vllm")
    assert refused(nash(*vllm, "--set", "precision=float64"), "sampler=vllm has no float64")
    assert refused(nash(*vllm, "--set", "generation.temperature=0.001"), "0.01 or more")
    ipo = ["--algorithm", "online-ipo", "--set", "mixture=0.25"]
    assert refused(nash(*vllm, *ipo), "sampler=vllm has no effect with algorithm=online-ipo")
    assert engines == []

    def broken(*given, **settings):
        raise RuntimeError("\nFailed to infer device type\nand more")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", broken)
    assert refused(nash(*vllm), "vLLM does not start", "Failed to infer device type")
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert refused(nash(*vllm), "vllm is not installed", f"bioplaus[{EXTRAS['vllm']}]")
    assert not (files / "r.h5").exists()


# ----------------------------------------------------------------------------------- a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_vllm_itself_draws_from_the_policy(kind):
    pytest.importorskip("vllm")
    lora = Lora(8) if kind == "lora" else None
    policy = load_policy("smollm2", lora=lora, dtype=torch.bfloat16, device="cuda")
    prompts = ["What is a lake?", "Name a colour."]
    decoder = started(policy, Sampling(16), prompts, "bfloat16")
    assert isinstance(decoder.engine, Engine)
    trainer = make_trainer(policy, prompts=prompts, length=16)
    trainer.decoder = decoder
    off = [trainer.step()["sampling_logp_difference"] for _ in range(3)]
    assert max(off) < 0.1
