"""Steps of fixed shape, recorded or not: the tokens and scores of the loop with growing caches."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import pytest
import torch
import transformers

from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.decoders import KEPT, LOOK, Decoder
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.loading import load_policy
from nlhf.language.policy import Policy
from nlhf.language.static_caches import FixedStreams, unfit
from nlhf.language.streams import Streams
from tests import architectures
from tests.policies import PROMPTS, make_policy, move
from tests.recording import Recorder

LENGTH = 11
CUT = Sampling(LENGTH, 0.8, top_k=4, top_p=0.9, repetition_penalty=1.2, truncate_own=True)
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}


def numbers(rows: int, length: int = LENGTH, seed: int = 1) -> torch.Tensor:
    return draw_uniforms(rows, length, torch.Generator().manual_seed(seed))


def both(decoder, policy, own=2, mixed=3, weight=0.3, sampling=None, prompts=PROMPTS, seed=1):
    """Answers by the decoder and by the loop."""
    sampling = sampling or Sampling(LENGTH)
    draws = numbers(len(prompts) * (own + mixed), sampling.max_new_tokens, seed)
    given = (policy, policy.encode(prompts), own, mixed, weight, sampling, draws)
    return decoder(*given), decode(*given)


def same(found, expected, most: float = 1e-9) -> None:
    for name in ("tokens", "mask", "ended"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for name in ("log_pi", "log_mu"):
        here, there = getattr(found, name), getattr(expected, name)
        assert here.dtype == there.dtype
        torch.testing.assert_close(here, there, rtol=0, atol=most, equal_nan=True)


@pytest.mark.parametrize("kind", ["full", "lora", "lora, two passes"])
@pytest.mark.parametrize("dtype", CLOSE, ids=["f64", "f32"])
def test_recorded_steps_give_the_loop_s_answers(kind, dtype) -> None:
    policy = make_policy(kind.partition(",")[0], dtype=dtype)
    if kind.endswith("passes"):
        policy.joined = False
    told: list[str] = []
    recorder = Recorder()
    decoder = Decoder(recorder=recorder, note=told.append)
    for seed in (1, 2):  # the second batch is replayed from its first step on
        found, expected = both(decoder, policy, seed=seed)
        same(found, expected, CLOSE[dtype])
        assert len(set(expected.mask.sum(1).tolist())) > 2  # rows end early
    assert recorder.told.count("record") == 1
    assert recorder.told.count("replay") > LENGTH
    assert told == [
        "decoding by recorded steps: 20 rows of the policy and 12 of the reference, 64 places"
    ]


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(
    ("own", "mixed", "weight", "prompts"),
    [(1, 0, 0.0, PROMPTS[:1]), (0, 2, 1.0, PROMPTS), (2, 1, 0.0, PROMPTS), (0, 1, 0.5, PROMPTS)],
)
def test_without_a_recorder_too_and_for_any_rows(kind, own, mixed, weight, prompts) -> None:
    policy = make_policy(kind)
    found, expected = both(Decoder("static"), policy, own, mixed, weight, prompts=prompts)
    same(found, expected)
    assert len(found.tokens) == len(prompts) * (own + mixed)


@pytest.mark.parametrize("recorded", [False, True])
def test_cuts_and_counted_tokens_stay_with_their_batch(recorded) -> None:
    policy = make_policy()
    policy.shortest = 3
    decoder = Decoder("static", recorder=Recorder() if recorded else None)
    for prompts in (PROMPTS, PROMPTS[::-1]):
        found, expected = both(decoder, policy, sampling=CUT, prompts=prompts)
        same(found, expected)
        assert int(found.mask.sum(1).min()) >= 3


def test_a_recorded_step_reads_the_weights_as_they_are_now() -> None:
    policy, recorder = make_policy("lora"), Recorder()
    decoder = Decoder(recorder=recorder)
    before, _ = both(decoder, policy)
    move(policy, 0.3, seed=5)
    found, expected = both(decoder, policy)
    same(found, expected)
    assert not torch.equal(found.log_pi, before.log_pi)
    assert recorder.told.count("record") == 1
    # weights elsewhere in memory are another policy
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.data = parameter.data.clone()
    same(*both(decoder, policy))
    assert recorder.told.count("record") == 2


def test_another_weight_is_the_same_shape_and_few_shapes_are_kept() -> None:
    policy, recorder = make_policy(), Recorder()
    decoder = Decoder(recorder=recorder)
    for weight in (0.3, 0.125, 0.9):
        same(*both(decoder, policy, weight=weight))
    assert recorder.told.count("record") == 1
    for count in range(1, KEPT + 2):
        same(*both(decoder, policy, own=count, mixed=0, sampling=Sampling(3)))
    assert len(decoder._programs) == KEPT


def test_all_rows_that_have_ended_stop_the_steps_a_look_late() -> None:
    policy, recorder, length = make_policy(), Recorder(), 40
    decoder = Decoder(recorder=recorder)
    asked: list[bool] = []
    given = (policy, policy.encode(PROMPTS), 1, 0, 0.0, Sampling(length), numbers(4, length))
    expected = decode(*given)
    longest = expected.tokens.shape[1]
    assert longest + 3 * LOOK < length
    found = decoder(*given, all_done=lambda done: asked.append(done) or done)
    same(found, expected)
    assert asked[-1]
    assert not any(asked[:-1])
    assert recorder.told.count("replay") <= longest + 2 * LOOK
    # processes go on together
    found = decoder(*given, all_done=lambda done: False)
    assert torch.equal(found.tokens, expected.tokens)


@torch.no_grad()
def test_bfloat16_is_the_loop_s_to_its_rounding() -> None:
    policy = make_policy("lora", dtype=torch.bfloat16, moved=0.1)
    found, expected = both(Decoder(recorder=Recorder()), policy, sampling=Sampling(1))
    assert torch.equal(found.tokens, expected.tokens)
    given = (policy, policy.encode(PROMPTS), 1, 1, 0.5, 4)
    streams, fixed = Streams(*given), FixedStreams(Streams(*given), 64)
    mine, theirs = fixed.take(Streams(*given)), streams.prefill()
    tokens = torch.arange(8) % 5
    for _ in range(3):
        for here, there in zip(mine, theirs, strict=True):
            apart = (here.float().softmax(-1) - there.float().softmax(-1)).abs().sum(-1)
            assert float(apart.max()) < 0.02
        fed = zip(fixed.streams, fixed.rows.fed(tokens), strict=True)
        mine = fixed.rows.split([stream.step(part) for stream, part in fed])
        theirs = streams.step(tokens)


def other(family: str, **more) -> Policy:
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=6,
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **more,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(config).double()
    like, moved = make_policy(), copy.deepcopy(model)
    policy = Policy(moved, model, like.tokenizer, like.end_ids, like.pad_id, 64, family)
    move(policy, 0.2)
    return policy


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("gpt2", {"n_positions": 64}),
        # a window that is shorter than a prompt
        ("mistral", {"num_key_value_heads": 1, "intermediate_size": 32, "sliding_window": 5}),
        (
            "gemma3_text",
            {"num_key_value_heads": 1, "intermediate_size": 32, "sliding_window": 4, "head_dim": 8},
        ),
    ],
)
def test_other_families_and_windows(family, more) -> None:
    policy, recorder = other(family, **more), Recorder()
    same(*both(Decoder(recorder=recorder), policy), 1e-6)
    assert recorder.told.count("record") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_all_architectures_are_recorded(name, kind) -> None:
    policy, recorder = architectures.policy_of(name, kind, torch.float32), Recorder()
    count, prompts = len(architectures.PROMPTS), architectures.prompts()
    given = (policy, prompts, 1, 2, 0.3, Sampling(LENGTH), numbers(3 * count))
    same(Decoder(recorder=recorder)(*given), decode(*given), 1e-5)
    assert recorder.told.count("record") == 1


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["full", "lora", "lora, two passes"])
def test_cuda_graphs_give_the_loop_s_answers(kind) -> None:
    policy = load_policy(
        "tiny:a,b,c,d,e,<end>",
        lora=Lora(rank=3) if kind != "full" else None,
        dtype=torch.float64,
        device="cuda",
    )
    policy.model.to(torch.float64)
    move(policy, 0.3)
    policy.joined = policy.joined and kind == "lora"
    told: list[str] = []
    decoder = Decoder(note=told.append)
    for seed in (1, 2):
        same(*both(decoder, policy, seed=seed, sampling=Sampling(40)), 1e-6)
    assert told[0].startswith("decoding by recorded steps")


def test_a_cache_of_states_falls_back_with_the_reason() -> None:
    policy = other("mamba", intermediate_size=32, state_size=4, time_step_rank=2)
    told: list[str] = []
    decoder = Decoder("static", recorder=Recorder(), note=told.append)
    for _ in range(2):
        found, expected = both(decoder, policy)
        assert torch.equal(found.tokens, expected.tokens)
    (text,) = told
    assert text.startswith("decoding token by token with growing caches: its cache has a Lin")


def test_what_waits_for_the_device_falls_back_with_the_reason() -> None:
    policy, told = make_policy(), []
    decoder = Decoder(recorder=Recorder(), note=told.append)
    inner = policy.model.model.norm
    plain = inner.forward

    def waits(x):
        return plain(x) * float(x.abs().amax() >= 0)

    inner.forward = waits
    for _ in range(2):
        same(*both(decoder, policy))
    (text,) = told
    assert "a step cannot be recorded: _local_scalar_dense waits for the device" in text
    assert not decoder._programs


def test_a_static_cache_that_changes_the_answers_is_not_used(monkeypatch) -> None:
    policy = make_policy()
    assert unfit(policy) is None
    monkeypatch.setattr(
        "nlhf.language.static_caches._take_over",
        lambda mine, read, index, width: mine.lazy_initialization(
            read.keys[index][:, :, :0], read.values[index][:, :, :0]
        ),
    )
    assert "a static cache changes the policy's probabilities" in str(unfit(policy))


def test_on_a_cpu_nothing_is_recorded_unasked(monkeypatch) -> None:
    policy = make_policy()
    monkeypatch.setattr("nlhf.language.decoders.Program", None)
    for decoder in (Decoder(), Decoder("dynamic", recorder=Recorder())):
        found, expected = both(decoder, policy)
        same(found, expected, 0.0)
        assert torch.equal(found.tokens, expected.tokens)


def test_mistakes_are_those_of_the_loop() -> None:
    policy = make_policy()
    with pytest.raises(InputError, match=r"cache='fixed' is unknown; use one of auto, static"):
        Decoder("fixed")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"mixture weight 1\.5"):
        both(Decoder("static"), policy, weight=1.5)
    policy = dataclasses.replace(policy, context=10)
    with warnings.catch_warnings(), pytest.raises(InputError, match=r"the 10 tokens"):
        both(Decoder("static"), policy)
