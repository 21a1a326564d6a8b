"""A supervised warm start: its loss is transformers' own, and what it saves is a reference."""

import json
import math
from itertools import pairwise

import pytest
import torch

from bridge.optim import Optimizer
from bridge.runlog import read_run
from nlhf.language.adapters import Lora
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Example
from nlhf.language.saving import save_policy
from nlhf.language.trainer import Batching
from nlhf.language.warm_start import WarmStart, completion_loss
from tests.command_line import call, refused
from tests.policies import PROMPTS, WORDS, make_policy

TINY = "tiny:" + ",".join(WORDS)
END = WORDS.index("<end>")
ANSWERS = ["b c", "a", "d d d e", "c a"]
EXAMPLES = [Example(*pair) for pair in zip(PROMPTS, ANSWERS, strict=True)]
# one answer to each prompt, of one to three words
LANGUAGE = {"a": "b c", "b a": "c", "c": "d d d", "a a b": "e", "d": "a b", "e e": "c b a"}


def theirs(policy, examples):
    """The loss of transformers, which shifts the labels itself; -100 is ignored."""
    rows, labels = [], []
    for each in examples:
        asked = [WORDS.index(word) for word in each.prompt.split()]
        answered = [*(WORDS.index(word) for word in each.completion.split()), END]
        rows.append(asked + answered)
        labels.append([-100] * len(asked) + answered)
    longest = max(map(len, rows))
    ids, mask, marked = (torch.full((len(rows), longest), fill) for fill in (0, 0, -100))
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        marked[i, : len(row)] = torch.tensor(label)
    return policy.model(input_ids=ids, attention_mask=mask, labels=marked).loss


def gradient(policy, loss):
    named = policy.trainable()
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


def tokens_of(examples):
    return sum(len(each.completion.split()) + 1 for each in examples)


def make_state(policy, examples=EXAMPLES, held=(), batch=2, accumulation=1, method="sgd"):
    optimizer = Optimizer(policy.trainable(), method=method, learning_rate=0.1)
    batching = Batching(batch, accumulation)

    def order(epoch):
        return torch.arange(len(examples))

    return WarmStart(policy, examples, held, optimizer, order, 1, batching)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_loss_and_gradient_are_those_of_transformers_with_the_prompt_masked(kind):
    policy = make_policy(kind)
    loss, sums = completion_loss(policy, EXAMPLES, tokens_of(EXAMPLES))
    expected = theirs(policy, EXAMPLES)
    # transformers takes the loss of float64 logits in float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert float(sums[0]) == pytest.approx(loss.item() * tokens_of(EXAMPLES), rel=1e-12)
    ours, wanted = gradient(policy, loss), gradient(policy, expected)
    assert float((ours - wanted).norm() / wanted.norm()) < 1e-6
    # a loss that also learns the prompts would differ
    whole = policy.encode(PROMPTS)
    everything = policy.model(input_ids=whole.ids, attention_mask=whole.mask, labels=whole.ids).loss
    assert float((gradient(policy, everything) - wanted).norm() / wanted.norm()) > 0.1


def test_what_stands_beside_an_example_does_not_matter():
    policy, total = make_policy(), tokens_of(EXAMPLES)
    together, sums = completion_loss(policy, EXAMPLES, total)
    alone = [completion_loss(policy, [each], total) for each in EXAMPLES]
    assert sum(loss.item() for loss, _ in alone) == pytest.approx(together.item(), rel=1e-12)
    torch.testing.assert_close(sum(each for _, each in alone), sums, rtol=1e-12, atol=1e-12)
    parts = sum(gradient(policy, loss) for loss, _ in alone)
    torch.testing.assert_close(parts, gradient(policy, together), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 4), (2, 2), (3, 2)])
def test_a_step_of_several_passes_is_that_of_one(batch, accumulation):
    one, several = make_policy(), make_policy()
    first = make_state(one, batch=4).update()
    second = make_state(several, batch=batch, accumulation=accumulation).update()
    assert second.loss == pytest.approx(first.loss, rel=1e-12)
    assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-10)
    assert second.num_tokens == first.num_tokens == 16 + tokens_of(EXAMPLES)
    for name, parameter in one.trainable().items():
        torch.testing.assert_close(several.trainable()[name], parameter, rtol=1e-10, atol=1e-12)


def test_measures_are_what_their_names_say():
    policy = make_policy()
    state = make_state(policy, held=EXAMPLES, batch=3)
    told = []
    held = state.judge(0, told.append)
    assert sum(told) == len(EXAMPLES)
    assert held.eval_loss == pytest.approx(theirs(policy, EXAMPLES).item(), rel=1e-6)
    assert held.eval_perplexity == pytest.approx(math.exp(held.eval_loss), rel=1e-12)
    right, entropies = 0, []
    for each in EXAMPLES:  # word by word, without a batch or a mask
        ids = [WORDS.index(word) for word in each.prompt.split()]
        for word in [*each.completion.split(), "<end>"]:
            with torch.no_grad():
                p = policy.model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
            right += int(p.argmax()) == WORDS.index(word)
            entropies.append(float(-(p * p.log()).sum()))
            ids.append(WORDS.index(word))
    assert held.eval_mean_token_accuracy == right / len(entropies)
    assert held.eval_entropy == pytest.approx(sum(entropies) / len(entropies), rel=1e-10)


def test_a_completion_follows_the_chat_template_of_its_prompt():
    policy = load_policy(TINY, dtype=torch.float64)
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}e"
    chat = [{"role": "system", "content": "d d"}, {"role": "user", "content": "a b"}]
    loss, _ = completion_loss(policy, [Example(chat, "c")], 2)
    plain = [Example("d d a b e", "c")]
    assert loss.item() == pytest.approx(theirs(policy, plain).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_of_a_run_on_a_merged_adapter_is_the_warm_started_policy(tmp_path, dtype):
    policy = make_policy("lora", dtype=dtype)
    save_policy(policy, tmp_path / "warm", {}, merge=True)
    encoded = policy.encode(PROMPTS)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
    with torch.no_grad():
        warm, base = policy.forward(inputs).logits, policy.forward(inputs, reference=True).logits
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    for lora in (None, Lora(rank=2)):
        again = load_policy(str(tmp_path / "warm"), lora=lora, dtype=dtype)
        mu = again.forward(inputs, reference=True).logits
        torch.testing.assert_close(mu, warm, rtol=0, atol=tolerance)
        assert float((mu - base).abs().max()) > 0.1
        with torch.no_grad():
            assert torch.equal(again.forward(inputs).logits, mu)


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": x, "completion": y} for x, y in LANGUAGE.items()]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "e.jsonl"


def warm(examples, *more, model=TINY):
    given = ("--model", model, "--examples", examples, "--out", "run.h5", "--json", "--quiet")
    return call("warm-start", *given, *more)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "rate"), [(0, 0.02), (4, 0.005)])
def test_a_language_with_one_answer_a_prompt_is_learned_and_goes_to_nash_md(examples, rank, rate):
    result = warm(examples, "--held-out", examples, "--epochs", 80, "--save", "warm",
                  "--set", f"optimizer.learning_rate={rate}",
                  "--set", f"lora.rank={rank}", "--set", "batch_size=3",
                  "--set", "accumulation=2")  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["eval_loss"] < 0.02
    assert said["eval_mean_token_accuracy"] == 1
    run = read_run("run.h5")
    measured = run.table("held_out")
    assert list(measured["epoch"]) == list(range(81))
    assert measured["eval_loss"][0] > 1
    losses = run.table("metrics")["loss"]
    assert len(losses) == 80
    assert losses[-5:].max() < 0.02 < min(b for _, b in pairwise(losses[:5]))
    policy = load_policy("warm")
    assert not policy.has_adapter
    given = ("--model", "warm", "--prompts", examples, "--preference", "tests.trainers:longer_wins")
    given += ("--set", "generation.max_new_tokens=4", "--iterations", 1, "--set", "lora.rank=2")
    again = call("nash-md", *given, "--out", "n.h5", "--json", "--quiet")
    assert again.exit_code == 0, again.output
    # it starts where the warm start ended, which is also its reference
    assert json.loads(again.stdout)["objective_kl"] == pytest.approx(0, abs=1e-5)
    # some 5 nats an answer before
    assert json.loads(again.stdout)["objective_entropy"] < 2


def test_a_share_of_the_prompts_is_held_out_where_no_file_is_given(examples):
    said = json.loads(warm(examples, "--set", "holdout=0.34").stdout)
    assert said["learned_from"] == 4
    assert math.isfinite(said["eval_loss"])
    said = json.loads(warm(examples, "--overwrite", "--set", "holdout=0").stdout)
    assert said["learned_from"] == 6
    assert "eval_loss" not in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ("e.jsonl:1", "no JSON")),
        ('{"completion": "a"}', ("e.jsonl:1: prompt: missing",)),
        ('{"prompt": "a"}', ("e.jsonl:1: completion: missing", "answer")),
        ('{"prompt": "a", "completion": " "}', ("e.jsonl:1: completion: empty",)),
        ('{"prompt": "a", "completion": 3}', ("e.jsonl:1: completion:", "a number")),
        ('{"prompt": "a", "completion": "b"}', ("1 prompt in all", "--set holdout=0")),
        ("", ("e.jsonl: empty",)),
    ],
)
def test_wrong_examples_are_refused(examples, tmp_path, line, words):
    (tmp_path / examples).write_text(line)
    assert refused(warm(examples), *words)
    assert [each.name for each in tmp_path.iterdir()] == [examples]


def test_what_does_not_fit_is_refused(examples, tmp_path):
    long = {"prompt": "a " * 300, "completion": "b " * 300}
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n"
                                         + json.dumps(long) + "\n")  # fmt: skip
    words = ("long.jsonl: example 2", "300 tokens of prompt", "301", "context of 512")
    assert refused(warm("long.jsonl"), *words)
    assert refused(warm(examples, "--held-out", "long.jsonl"), *words)
    assert refused(warm(examples, "--held-out", "gone.jsonl"), "gone.jsonl", "cannot be read")
    assert refused(warm(examples, model="tiny:a"), "two or more different words")
    assert refused(warm(examples, "--epochs", 0), "--epochs 0: must be >= 1")
    assert refused(
        warm(examples, "--set", "optimizer.value_learning_rate=1"), "value_learning_rate"
    )
    assert refused(call("warm-start", "--model", TINY), "examples")
    assert not (tmp_path / "run.h5").exists()


def test_a_run_that_diverges_says_so(examples, tmp_path):
    result = warm(examples, "--epochs", 40, "--set", "optimizer.learning_rate=1e38",
                  "--set", "optimizer.method=sgd", "--set", "optimizer.clip_norm=1e30")  # fmt: skip
    assert result.exit_code == 1
    assert "learning rate" in result.stderr
    assert not (tmp_path / "run").exists()
