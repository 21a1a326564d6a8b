"""A base with packed weights: against bitsandbytes' own layers, and against the unpacked base."""

import copy
import sys

import pytest
import torch
from torch import nn

from bridge.runlog import read_run
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.checkpointing import checkpoint_layers
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.loading import load_policy, quiet
from nlhf.language.merging import merged
from nlhf.language.parallel import distribute_model
from nlhf.language.quantising import PackedLinear, is_packed, quantised, unpack
from nlhf.language.reference import Reference
from nlhf.language.saving import save_policy
from nlhf.language.scoring import score
from tests.architectures import make_model
from tests.command_line import call, refused
from tests.nlhf.language.running import files, nash
from tests.policies import PROMPTS, WORDS, move
from tests.test_cli_preference import small_model
from tests.trainers import make_trainer

bitsandbytes = pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")
__all__ = ["files"]
BITS = ("4bit", "8bit")


def packed_policy(bits, dtype=torch.float64, **more):
    policy = load_policy(
        "tiny:" + ",".join(WORDS), lora=Lora(3), dtype=dtype, quantise=bits, **more
    )
    policy.model.requires_grad_(False)
    for name, parameter in policy.model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
            parameter.requires_grad_(True)
    move(policy, 0.3)
    return policy


def unpacked_policy(bits):
    """The same with whole weights below the adapter."""
    policy = packed_policy(bits)
    unpack(policy.model)
    return policy


def linear(rows=48, columns=64, dtype=torch.float32):
    torch.manual_seed(3)
    return nn.Linear(columns, rows).to(dtype)


def test_four_bits_are_those_of_bitsandbytes():
    layer, x = linear(), torch.randn(5, 64, requires_grad=True)
    theirs = bitsandbytes.nn.Linear4bit(64, 48, compute_dtype=torch.float32, quant_type="nf4",
                                        compress_statistics=False)  # fmt: skip
    theirs.load_state_dict(layer.state_dict())
    theirs.support_avx512bf16_for_cpu = False
    theirs = theirs.to("cpu")
    mine = PackedLinear(layer.weight.detach(), layer.bias, "4bit")
    expected = theirs(x)
    torch.testing.assert_close(mine(x), expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (mine(x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    # 16 values, 64 of them to a scale
    assert float(((mine.unpacked() - layer.weight).norm() / layer.weight.norm()).detach()) < 0.12


def test_eight_bits_are_those_of_bitsandbytes():
    layer = linear()
    theirs = bitsandbytes.nn.Int8Params(layer.weight.detach(), requires_grad=False).to("cpu")
    mine = PackedLinear(layer.weight.detach(), layer.bias, "8bit")
    assert torch.equal(mine.weight, theirs.data)
    expected = theirs.data * theirs.SCB[:, None] / 127
    torch.testing.assert_close(mine.unpacked(), expected)
    # half a step of 127 of the largest weight of a row, and the rounding of float16 before
    most = layer.weight.abs().amax(1, keepdim=True) * (0.5 / 127 + 1e-3)
    assert ((mine.unpacked() - layer.weight).abs() <= most).all()


@pytest.mark.parametrize("bits", BITS)
def test_the_gradient_in_the_inputs_is_exact_and_rows_are_alone(bits):
    mine = PackedLinear(linear(dtype=torch.float64).weight.detach(), None, bits)
    x = torch.randn(3, 64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mine, (x,))
    loud = torch.cat((x, 1e4 * torch.ones_like(x)))
    torch.testing.assert_close(mine(loud)[:3], mine(x), rtol=1e-12, atol=1e-12)
    assert not mine.weight.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        out = mine(x.float())
    assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.float().sum(), x)
    expected = mine.unpacked().sum(0).double()
    torch.testing.assert_close(gradient, expected.expand_as(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("bits", "most"), [("4bit", 0.16), ("8bit", 0.27)])
def test_memory_is_a_fraction(bits, most):
    whole = linear(512, 256)
    mine = PackedLinear(whole.weight.detach(), None, bits)
    held = sum(t.numel() * t.element_size() for t in (mine.weight, *mine.buffers()))
    assert held < most * whole.weight.numel() * 4
    x = torch.randn(4, 256, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        mine(x).sum()
    assert sum(kept) < 4 * 512  # for the gradient it keeps no unpacked weights


@pytest.mark.parametrize("bits", BITS)
def test_answers_scores_and_gradients_are_those_of_the_unpacked_base(bits):
    policy, whole = packed_policy(bits), unpacked_policy(bits)
    assert is_packed(policy.model)
    assert not is_packed(whole.model)
    assert policy.joined
    encoded = policy.encode(PROMPTS)
    u = draw_uniforms(len(PROMPTS) * 6, 4, torch.Generator().manual_seed(3))
    drawn, same = (decode(each, encoded, 3, 3, 0.25, Sampling(4), u) for each in (policy, whole))
    assert torch.equal(drawn.tokens, same.tokens)
    torch.testing.assert_close(drawn.log_pi, same.log_pi, rtol=0, atol=1e-9)
    index = torch.arange(len(PROMPTS)).repeat_interleave(3)
    rows = slice(0, len(index))
    scored = score(policy, encoded, drawn.tokens[rows], drawn.mask[rows], index=index)
    torch.testing.assert_close(scored.log_prob, drawn.log_pi[rows], rtol=0, atol=1e-9)
    updates = []
    for each in (policy, whole):
        trainer = make_trainer(each, length=3)
        updates.append(trainer.estimate(trainer.objective.plan(0))[0])
    assert updates[0].keys() == updates[1].keys()
    for name, update in updates[1].items():
        torch.testing.assert_close(updates[0][name], update, rtol=1e-6, atol=1e-9)
    assert any(float(update.abs().max()) > 1e-3 for update in updates[0].values())


@pytest.mark.parametrize("bits", BITS)
def test_the_reference_is_the_packed_base_and_a_step_leaves_it(bits):
    policy = packed_policy(bits)
    encoded = policy.encode(PROMPTS)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
    before = policy.forward(inputs, reference=True).logits
    base = copy.deepcopy(policy.model).unload()
    unpack(base)
    with torch.no_grad():
        torch.testing.assert_close(before, base(**inputs).logits, rtol=0, atol=1e-9)
    trainer = make_trainer(policy, length=3)
    for _ in range(2):
        trainer.step()
    assert torch.equal(policy.forward(inputs, reference=True).logits, before)


@pytest.mark.parametrize("bits", BITS)
def test_a_merged_policy_computes_what_the_packed_one_did(bits, tmp_path):
    policy = packed_policy(bits, torch.float32)
    save_policy(policy, tmp_path / "whole", {}, merge=True)
    again = load_policy(str(tmp_path / "whole"), reference=False)
    encoded = policy.encode(PROMPTS)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
    with torch.no_grad():
        now, then = again.forward(inputs).logits, policy.forward(inputs).logits
    torch.testing.assert_close(now, then, rtol=0, atol=1e-4)
    assert is_packed(policy.model)
    assert not is_packed(merged(policy.model))


def test_a_reference_of_its_own_moves(tmp_path):
    policy = packed_policy("4bit", own_reference=True)
    trainer = make_trainer(policy, reference=Reference("ema", rate=0.5), length=3)
    packed = {n: p.clone() for n, p in policy.reference.named_parameters() if "base_layer" in n}
    adapter = {n: p.clone() for n, p in policy.reference.named_parameters() if "lora_" in n}
    trainer.step()
    now = dict(policy.reference.named_parameters())
    assert all(torch.equal(now[name], p) for name, p in packed.items())
    assert any(not torch.equal(now[name], p) for name, p in adapter.items())


def test_recomputed_layers_and_dropout_go_with_it():
    updates = []
    for recomputes in (False, True):
        policy = packed_policy("4bit")
        policy.drop_inputs(0.3, torch.Generator().manual_seed(1))
        policy.shares = False
        if recomputes:
            checkpoint_layers(policy)
        trainer = make_trainer(policy, length=3)
        updates.append(trainer.estimate(trainer.objective.plan(0))[0])
    for name, update in updates[0].items():
        torch.testing.assert_close(updates[1][name], update, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", BITS)
def test_weights_that_bitsandbytes_packed_before_are_unpacked(bits, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # transformers packs and unpacks with it
    base = small_model("causal", tmp_path / "base")
    how = {"load_in_8bit": True} if bits == "8bit" else {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True
    }  # fmt: skip
    settings = transformers.BitsAndBytesConfig(**how)
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, quantization_config=settings
        )
        theirs.save_pretrained(tmp_path / "packed")
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "packed")
    for layer in theirs.modules():
        layer.support_avx512bf16_for_cpu = False  # it needs wider layers than these
    whole = load_policy(str(tmp_path / "packed"))
    assert not is_packed(whole.model)
    inputs = {"input_ids": torch.arange(12)[None] % whole.vocabulary}
    off = 1e-6 if bits == "4bit" else 1e-2  # theirs rounds inputs to 8 bits too
    with torch.no_grad():
        expected, unpacked = theirs(**inputs).logits, whole.forward(inputs).logits
        torch.testing.assert_close(unpacked, expected, rtol=0, atol=off)
        again = load_policy(str(tmp_path / "packed"), lora=Lora(2), quantise=bits)
        packed = again.forward(inputs, reference=True).logits
    # packed once more they are the same, up to the rounding of scales
    torch.testing.assert_close(packed, unpacked, rtol=0, atol=2e-3)


class Pair:
    """Two processes, of which this is the first."""

    size = 2


def test_what_cannot_be_packed_is_refused(monkeypatch, tmp_path):
    spec = "tiny:a,b,c,<end>"
    with pytest.raises(InputError, match=r"has packed weights, which cannot learn.*lora\.rank"):
        load_policy(spec, quantise="4bit")
    with pytest.raises(InputError, match=r"quantise='2bit' is unknown; use 4bit or 8bit"):
        load_policy(spec, lora=Lora(2), quantise="2bit")
    with pytest.raises(InputError, match=r"quantise=4bit: gpt2 \(GPT2.*no linear layers to pack"):
        quantised(make_model("gpt2"), "4bit", "gpt2", "cpu")
    with pytest.raises(InputError, match=r"shard=fsdp cannot split the packed weights"):
        distribute_model(packed_policy("4bit"), Pair(), "fsdp")
    with pytest.raises(InputError, match=r"cannot save an adapter on tiny.*only in memory"):
        distribute_model(load_policy(spec, lora=Lora(2)), Pair(), "fsdp")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"bitsandbytes is not installed.*bioplaus\[quantised\]"):
        load_policy(spec, lora=Lora(2), quantise="4bit")


def test_a_run_an_adapter_that_goes_on_and_a_warm_start(files):
    base = small_model("causal", files / "base")
    sets = ["--set", "quantise=4bit", "--set", "mixed_precision=true"]
    lora = ["--set", "lora.rank=2"]
    done = nash("--model", base, *sets, *lora, "--save", "first")
    assert done.exit_code == 0, done.output
    assert read_run("r.h5").config["quantise"] == "4bit"
    assert "| quantise | `4bit` |" in (files / "first" / "README.md").read_text()
    done = nash("--model", files / "first", *sets, "--save", "second", out="s.h5")
    assert done.exit_code == 0, done.output
    adapter = load_policy("second", quantise="8bit")
    assert adapter.has_adapter
    assert is_packed(adapter.model)
    assert refused(nash(*sets, out="t.h5"), "packed weights", "lora.rank")
    (files / "e.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 4)
    given = ["--model", base, "--examples", "e.jsonl", "--set", "holdout=0", "--quiet"]
    done = call("warm-start", *given, *sets, *lora, "--save", "warm", "--out", "w.h5")
    assert done.exit_code == 0, done.output
    warm = load_policy("warm", reference=False)
    assert not warm.has_adapter  # merged
    assert not is_packed(warm.model)
    plain = load_policy(str(base), lora=Lora(2), quantise="4bit")
    unpack(plain.model)
    whole = dict(plain.model.unload().named_parameters())
    with torch.no_grad():
        moved = [(warm.model.get_parameter(n) - p).abs().max() for n, p in whole.items()]
    assert max(map(float, moved)) < 0.01  # a step of 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("bits", BITS)
def test_a_gpu_has_the_same_policy(bits):
    spec = "tiny:" + ",".join(WORDS)
    there, here = (
        load_policy(spec, lora=Lora(3), quantise=bits, device=device) for device in ("cuda", "cpu")
    )
    for policy in (there, here):
        move(policy, 0.3)
    prompts = here.encode(PROMPTS)
    inputs = {"input_ids": prompts.ids, "attention_mask": prompts.mask}
    on_gpu = {name: tensor.to("cuda") for name, tensor in inputs.items()}
    with torch.no_grad():
        expected, found = here.forward(inputs).logits, there.forward(on_gpu).logits
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)
    measures = make_trainer(there, length=3).step()  # decodes by recorded steps
    assert measures["grad_norm"] > 0
