"""Preference models: antisymmetric to the last bit, cyclic where the votes are, saved whole."""

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bridge.optim import Optimizer
from nlhf.config import get_judge
from nlhf.errors import InputError
from nlhf.language.assessment import assess
from nlhf.language.comparisons import Comparison
from nlhf.language.encoders import HashedEncoder, load_encoder
from nlhf.language.preference_models import HEADS, PreferenceModel, load_preference
from nlhf.language.preference_training import Fit, fit

CYCLE = [("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")]


def model(head, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    encoder = options.pop("encoder", None) or HashedEncoder(32)
    return PreferenceModel(encoder, head, generator=generator, **options)


def training(head, comparisons, epochs=150, rate=1e-2, check=(), batch=32, seed=0):
    net = model(head, seed)
    optimizer = Optimizer(net.learns(), method="adam", learning_rate=rate)

    def order(epoch):
        return torch.randperm(len(comparisons), generator=torch.Generator().manual_seed(epoch))

    return Fit(net, comparisons, check, comparisons, optimizer, order, epochs, batch)


@pytest.mark.parametrize("head", HEADS)
@given(texts=st.lists(st.tuples(*3 * [st.text(max_size=30)]), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_antisymmetric_to_the_last_bit(head, texts):
    x, a, b = zip(*texts, strict=True)
    net = model(head)
    z, back = net(x, a, b), net(x, b, a)
    assert torch.equal(z, -back)
    assert (net.probabilities(x, a, b) + net.probabilities(x, b, a) - 1).abs().max() <= 2**-52
    assert bool((net(x, a, a) == 0).all())


@pytest.mark.parametrize("head", HEADS)
def test_one_comparison_alone_and_among_others_agree(head):
    net = model(head)
    x, a, b = ["p", "q"], ["a b", "c"], ["d", "e f"]
    alone = torch.cat([net([p], [q], [r]) for p, q, r in zip(x, a, b, strict=True)])
    torch.testing.assert_close(net(x, a, b), alone, rtol=0, atol=1e-6)


def test_bradley_terry_is_a_reward_and_the_others_are_not():
    """z(a,b) + z(b,c) + z(c,a) = 0 is what makes a preference a reward."""
    loops = {}
    for head in HEADS:
        z = model(head)(["x"] * 3, ["a", "b", "c"], ["b", "c", "a"])
        loops[head] = abs(float(z.sum()))
    assert loops["bradley-terry"] < 1e-7
    assert loops["pairwise"] > 1e-4
    assert loops["skew-symmetric"] > 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_only_a_head_that_can_go_round_learns_a_cycle(head):
    votes = [Comparison("play", a, b, 0.9, 10.0) for a, b in CYCLE]
    state = training(head, votes)
    held = fit(state)
    p = state.model.probabilities(["play"] * 3, *zip(*CYCLE, strict=True))
    assert held.vote_cycles.cyclic == 1
    if head != "bradley-terry":
        assert bool(((p - 0.9).abs() < 0.03).all())
        assert held.accuracy == held.model_cycles.cyclic == 1
        assert held.model_cycles.energy > 0.95
    else:
        # by symmetry the best rewards are equal
        assert bool(((p - 0.5).abs() < 0.1).all())
        assert held.model_cycles.cyclic == 0
        assert held.model_cycles.energy < 1e-9
        assert held.loss > 0.69


def test_bradley_terry_reaches_the_maximum_of_the_likelihood():
    """On four answers the head's rewards are free: its P is that of scipy's optimum."""
    names, votes = ["alpha", "beta", "gamma", "delta"], []
    wins = torch.Generator().manual_seed(3)
    for i, j in itertools.combinations(range(4), 2):
        share = float(torch.rand((), generator=wins) * 0.6 + 0.2)
        votes.append((i, j, share, 5.0 + i))

    def loss(r):
        d = [torch.tensor(r[i] - r[j]) for i, j, *_ in votes]
        return sum(
            -v * float(s * torch.nn.functional.logsigmoid(z) + (1 - s) * (-z).sigmoid().log())
            for z, (_, _, s, v) in zip(d, votes, strict=True)
        )

    best = minimize(loss, [0.0] * 4, method="BFGS", options={"gtol": 1e-8}).x
    comparisons = [Comparison("x", names[i], names[j], s, v) for i, j, s, v in votes]
    state = training("bradley-terry", comparisons, epochs=400, rate=3e-3)
    fit(state)
    p = state.model.probabilities(
        ["x"] * len(votes), [names[i] for i, *_ in votes], [names[j] for _, j, *_ in votes]
    )
    expected = torch.tensor([best[i] - best[j] for i, j, *_ in votes]).sigmoid().double()
    torch.testing.assert_close(p, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("stop", [1, 7, 12])
def test_a_stopped_training_goes_on_as_if_it_had_not(stop):
    votes = [Comparison(f"p{i}", f"a {i}", f"b {i * i}", 0.2 + i / 10, 1.0) for i in range(7)]
    whole = training("pairwise", votes, epochs=5, check=votes[:2], batch=3)
    fit(whole)
    half = training("pairwise", votes, epochs=5, check=votes[:2], batch=3)
    assert fit(half, after=lambda: half.step == stop) is None
    state = half.state()
    numbers = json.loads(json.dumps(state["numbers"], allow_nan=False))
    tensors = {name: t.clone() for name, t in state["tensors"].items()}
    rest = training("pairwise", votes, epochs=5, check=votes[:2], batch=3, seed=1)
    rest.load_state({"tensors": tensors, "numbers": numbers})
    fit(rest)
    assert rest.step == whole.step
    assert rest.best_epoch == whole.best_epoch
    for name, parameter in whole.model.learns().items():
        assert torch.equal(parameter, rest.model.learns()[name])


@pytest.mark.parametrize("head", HEADS)
def test_a_frozen_encoder_reads_each_row_once_and_the_report_is_the_models(head):
    answers = [f"a {i}" for i in range(4)]
    votes = [Comparison("x", *pair, 0.7) for pair in itertools.combinations(answers, 2)]
    held = [Comparison("y", "b", "c", 1.0), Comparison("y", "c", "d", 0.0)]  # b and d never met
    state = training(head, votes[:4], epochs=6, check=votes[4:], batch=2)
    state.held, read = held, []
    encoder = state.model.encoder.forward
    state.model.encoder.forward = lambda rows: read.extend(rows) or encoder(rows)
    found = fit(state)
    unmet = [("y", "b", "d"), ("y", "d", "b")] if head == "pairwise" else []
    once = [row for row in read if row not in unmet]
    assert len(once) == len(set(once))
    again = assess(state.model, held)
    assert found.n == again.n == 2
    assert found.model_cycles.triads == again.model_cycles.triads == 1
    for name in ("loss", "accuracy", "brier", "ece"):
        assert getattr(found, name) == pytest.approx(getattr(again, name), abs=1e-6)
    assert found.model_cycles.energy == pytest.approx(again.model_cycles.energy, abs=1e-5)


def test_a_loss_that_is_no_number_ends_the_training():
    state = training("pairwise", [Comparison("x", "a", "b", 1.0)])
    with torch.no_grad():
        state.model.last.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        fit(state)


@pytest.mark.parametrize("head", HEADS)
def test_saved_and_loaded_it_judges_the_same(head, tmp_path):
    net = model(head)
    net.save(tmp_path / "m", {"note": 1})
    judge = get_judge(str(tmp_path / "m"))
    x, a, b = [[{"role": "user", "content": "q"}], "p"], ["a b", "c"], ["d", "e f"]
    assert torch.equal(judge(x, a, b), net.probabilities(x, a, b))
    assert judge([], [], []).shape == (0,)


def test_damage_is_named(tmp_path):
    folder = tmp_path / "m"
    model("pairwise").save(folder)
    head = folder / "head.safetensors"
    good = head.read_bytes()
    head.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match=r"head\.safetensors: damaged"):
        load_preference(folder)
    head.write_bytes(good)
    facts = json.loads((folder / "preference.json").read_text())
    for key, value, words in (
        ("version", 99, "version 99"),
        ("format", "x", "no preference model"),
        ("hidden", 5, "another model"),
        ("head", "x", "unknown"),
        ("sha256", None, "damaged"),
        ("encoder", {"kind": "x"}, "unknown"),
    ):
        (folder / "preference.json").write_text(json.dumps({**facts, key: value}))
        with pytest.raises(InputError, match=words):
            load_preference(folder)
    (folder / "preference.json").write_text("[1")
    with pytest.raises(InputError, match="no JSON"):
        load_preference(folder)
    with pytest.raises(InputError, match="preference-train"):
        load_preference(tmp_path / "nothing")


@pytest.mark.parametrize("call", [lambda: model("x"), lambda: model("pairwise", hidden=0)])
def test_an_unknown_head_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_hashed_words_have_nothing_to_tune():
    with pytest.raises(InputError, match="use frozen"):
        load_encoder("hashed", tune="lora")
    with pytest.raises(InputError, match="max_length=3"):
        load_encoder("hashed", max_length=3)
