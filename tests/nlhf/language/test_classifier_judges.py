"""`reward:MODEL` and `pair:MODEL` say what transformers says of the same texts, one by one."""

import json

import pytest
import torch

from nlhf.config import get_judge, get_reward
from nlhf.config.judges import SourcesConfig
from nlhf.errors import InputError
from nlhf.language.extras import need
from nlhf.language.judging import AbstractJudge
from tests.nlhf.language.classifier_models import CHAT, save_classifier

pytest.importorskip("transformers")

PROMPTS = ["why now", "now", [{"role": "user", "content": "why"}], "why why now"]
A = ["good fine", "bad", "good good good bad", ""]
B = ["poor", "fine why now", "bad", "good"]
EXACT = SourcesConfig(reward={"precision": "float64"}, pair={"precision": "float64"})
CLOSE: dict[str, float] = {"rtol": 0, "atol": 1e-9}


def alone(folder, rows):
    """The logits of token lists, each in a pass of its own."""
    transformers = need("transformers")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float64
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**row(tokenizer)).logits.double() for row in rows])


def text(prompt):
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def read(kind, prompt, answer):
    """What a reward model reads of a prompt and an answer."""
    if kind == "encoder":
        return lambda tokenizer: tokenizer(text(prompt), answer, return_tensors="pt")
    if kind == "causal":
        return lambda tokenizer: tokenizer(f"{text(prompt)}\n\n{answer}", return_tensors="pt")
    said = f"user | {text(prompt)} <eos> assistant | {answer} <eos> "
    return lambda tokenizer: tokenizer(said, add_special_tokens=False, return_tensors="pt")


@pytest.mark.parametrize(
    ("kind", "pad"), [("encoder", True), ("causal", False), ("chat", True), ("chat", False)]
)
def test_a_reward_is_that_of_the_model_on_each_text_alone(tmp_path, kind, pad):
    chat = CHAT if kind == "chat" else None
    body = "encoder" if kind == "encoder" else "causal"
    folder = save_classifier(tmp_path / "m", body, chat=chat, pad=pad)
    judge = get_judge(f"reward:{folder}", sources=EXACT)
    rows = [read(kind, x, y) for answers in (A, B) for x, y in zip(PROMPTS, answers, strict=True)]
    rewards = alone(folder, rows)[:, 0]
    found = get_reward(None, judge)([*PROMPTS, *PROMPTS], [*A, *B])
    torch.testing.assert_close(found, rewards, **CLOSE)
    assert found.std() > 0.01
    wanted = torch.sigmoid(rewards[:4] - rewards[4:])
    torch.testing.assert_close(judge(PROMPTS, A, B), wanted, **CLOSE)
    one = judge(PROMPTS[:1], A[:1], B[:1])
    torch.testing.assert_close(one, wanted[:1], **CLOSE)
    ((weight, part),) = judge.parts()
    assert (weight, part.transitive, part.facts()["transitive"]) == (1.0, True, True)


def test_a_template_takes_the_place_of_the_tokenizers(tmp_path):
    folder = save_classifier(tmp_path / "m", "causal", chat=CHAT)
    sources = SourcesConfig(reward={"template": "now {prompt} | {answer}", "precision": "float64"})
    judge = get_judge(f"reward:{folder}", sources=sources)
    a, b = "good {prompt}", "bad"  # what stands in an answer is no place
    rows = [lambda t, y=y: t(f"now why | {y}", return_tensors="pt") for y in (a, b)]
    r = alone(folder, rows)[:, 0]
    found = judge(["why"], [a], [b])
    torch.testing.assert_close(found, torch.sigmoid(r[:1] - r[1:]), **CLOSE)
    with pytest.raises(InputError, match=r"lacks \{answer\}"):
        get_judge(f"reward:{folder}", sources=SourcesConfig(reward={"template": "{prompt}"}))


def test_what_is_too_long_is_cut_in_the_middle_of_its_longest_text_and_counted(tmp_path):
    folder = save_classifier(tmp_path / "m", "encoder", context=16)
    judge = get_judge(f"reward:{folder}", sources=EXACT)
    a, b = ["good bad"], ["poor poor"]
    long, other = ("why " * 20 + middle * 20 + "now " * 20 for middle in ("good ", "fine "))
    assert judge([long], a, b) == judge([other], a, b)
    assert judge([long], a, b) != judge(["now " * 60], a, b)
    assert judge([long], a, b) != judge(["why " * 60], a, b)
    assert judge([long], a, b) != judge([long], ["good good"], b)
    assert judge.counts()["cut"] == 16
    sources = SourcesConfig(reward={"max_length": 17})
    with pytest.raises(InputError, match="max_length=17 exceeds its context of 16"):
        get_judge(f"reward:{folder}", sources=sources)


OUTPUTS = {
    1: (None, lambda z: torch.sigmoid(z[:, 0])),
    2: (None, lambda z: torch.softmax(z, -1)[:, 0]),
    3: (None, lambda z: torch.softmax(z, -1) @ torch.tensor([1.0, 0.0, 0.5]).double()),
}
NAMED = {
    "b, a": (["b wins", "a wins"], lambda z: torch.softmax(z, -1)[:, 1]),
    "tie first": (
        ["winner_tie", "winner_model_a", "winner_model_b"],
        lambda z: torch.softmax(z, -1) @ torch.tensor([0.5, 1.0, 0.0]).double(),
    ),
}


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("encoder", 1), ("causal", 2), ("encoder", 3), ("encoder", "b, a"), ("causal", "tie first")],
)
def test_a_classifier_of_pairs_is_asked_in_both_orders(tmp_path, kind, outputs):
    labels, first_wins = OUTPUTS.get(outputs) or NAMED[outputs]
    number = len(labels) if labels else outputs
    folder = save_classifier(tmp_path / "m", kind, number, labels=labels)
    judge = get_judge(f"pair:{folder}", sources=EXACT)
    between = " [SEP] " if kind == "encoder" else "\n\n"

    def rows(first, second):
        joined = [between.join((text(x), u, v)) for x, u, v in zip(PROMPTS, first, second,
                  strict=True)]  # fmt: skip
        return [lambda t, s=s: t(s, return_tensors="pt") for s in joined]

    p, q = (first_wins(alone(folder, rows(*each))) for each in ((A, B), (B, A)))
    torch.testing.assert_close(judge(PROMPTS, A, B), (p + 1 - q) / 2, **CLOSE)
    assert (p + q - 1).abs().max() > 0.01
    counts = judge.counts()
    assert counts["pairs"] == 4
    assert counts["first_place"] == pytest.approx(float((p + q).sum() / 2), abs=1e-9)
    assert counts["flips"] == int((((p > 0.5) & (q > 0.5)) | ((p < 0.5) & (q < 0.5))).sum())
    assert (judge(PROMPTS, A, B) + judge(PROMPTS, B, A) - 1).abs().max() <= 1e-12


def test_the_outputs_of_a_classifier_can_be_named(tmp_path):
    folder = save_classifier(tmp_path / "m", "encoder", 2)
    plain = get_judge(f"pair:{folder}", sources=EXACT)(PROMPTS, A, B)
    sources = SourcesConfig(pair={"outputs": ["second", "first"], "precision": "float64"})
    turned = get_judge(f"pair:{folder}", sources=sources)(PROMPTS, A, B)
    torch.testing.assert_close(turned, 1 - plain, **CLOSE)
    with pytest.raises(InputError, match=r"outputs=\['first'\] does not name the model's 2"):
        get_judge(f"pair:{folder}", sources=SourcesConfig(pair={"outputs": ["first"]}))


@pytest.mark.parametrize(
    ("make", "spec", "words"),
    [
        (lambda f: save_classifier(f, outputs=2), "reward:{}", "2 outputs.*pair:MODEL"),
        (lambda f: save_classifier(f, outputs=4), "pair:{}", "4 outputs; a classifier of pairs"),
        (lambda f: save_classifier(f), "{}", "write reward:.* for a reward model, pair:"),
        (lambda f: f.mkdir(), "reward:{}", "no config.json"),
        (lambda f: None, "reward:{}", "cannot be loaded"),
    ],
)
def test_what_is_no_such_model_is_refused(tmp_path, make, spec, words):
    make(tmp_path / "m")
    with pytest.raises(InputError, match=words):
        get_judge(spec.format(tmp_path / "m"))


def test_a_head_that_would_be_random_is_refused(tmp_path):
    transformers = need("transformers")
    folder = save_classifier(tmp_path / "m", "causal")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(InputError, match=r"no weights for 1 of its parts, score.weight first"):
        get_judge(f"reward:{folder}")


def test_no_code_of_a_model_is_run_and_nothing_is_unpickled(tmp_path):
    folder = save_classifier(tmp_path / "m", "causal")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "mine.py").write_text("raise SystemExit('code of a stranger')")
    settings["auto_map"] = {"AutoModelForSequenceClassification": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(settings))
    get_judge(f"reward:{folder}")  # its own class of transformers is enough
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "mine"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        get_judge(f"reward:{folder}")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights are not read"):
        get_judge(f"reward:{folder}")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="an adapter; merge it"):
        get_judge(f"reward:{folder}")


def test_an_ensemble_is_the_weighted_mean_of_its_members(tmp_path):
    reward = save_classifier(tmp_path / "r", "causal")
    pair = save_classifier(tmp_path / "p", "encoder", 2)
    names = [f"reward:{reward}", f"pair:{pair}"]
    one, two = (get_judge(name, sources=EXACT)(PROMPTS, A, B) for name in names)
    both = get_judge(f"3*{names[0]} + 1*{names[1]}", sources=EXACT)
    assert isinstance(both, AbstractJudge)
    torch.testing.assert_close(both(PROMPTS, A, B), 0.75 * one + 0.25 * two, **CLOSE)
    assert [weight for weight, _ in both.parts()] == [0.75, 0.25]
    assert [part.transitive for _, part in both.parts()] == [True, False]
    assert both.antisymmetric
    assert not both.transitive
    with pytest.raises(InputError, match="has no scalar reward"):
        get_reward(None, both)
