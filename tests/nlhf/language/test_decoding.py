"""Decoding: the mixture is exact at every prefix, with caches, padding and ragged ends."""

import copy

import pytest
import torch
import transformers

from nlhf.errors import InputError
from nlhf.language.cuts import truncated
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.policy import Policy
from nlhf.language.scoring import score
from tests.policies import PROMPTS, make_policy

LENGTH = 7


def sample(policy, weight, own=2, mixed=3, sampling=None, prompts=PROMPTS, seed=1):
    """Answers, and the distributions from which the loop reports to draw them, [T, N, V]."""
    seen = []
    sampling = sampling or Sampling(LENGTH)
    encoded = policy.encode(prompts)
    draws = draw_uniforms(
        len(prompts) * (own + mixed), sampling.max_new_tokens, torch.Generator().manual_seed(seed)
    )
    answers = decode(
        policy, encoded, own, mixed, weight, sampling, draws, observe=lambda t, q: seen.append(q)
    )
    return answers, torch.stack(seen), encoded


@torch.no_grad()
def plain(policy, ids, reference):
    """The next token's probabilities by one model on one row, no cache, no padding."""
    return torch.softmax(policy.forward({"input_ids": ids[None]}, reference).logits[0, -1], -1)


def by_brute_force(policy, encoded, answers, n_own, weight, repeats):
    """The mixture, pi and mu of every row at every prefix, from the definition."""
    for row in range(len(answers.tokens)):
        own = row < n_own
        i = row // repeats[0] if own else (row - n_own) // repeats[1]
        prompt = encoded.ids[i][encoded.mask[i]]
        for t in range(int(answers.mask[row].sum())):
            ids = torch.cat((prompt, answers.tokens[row, :t]))
            pi, mu = (plain(policy, ids, reference) for reference in (False, True))
            w = 0.0 if own else weight
            q = pi ** (1 - w) * mu**w
            yield row, t, q / q.sum(), pi, mu


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_mixture_is_exact_at_every_prefix(kind, dtype, most, weight):
    policy = make_policy(kind, dtype=dtype)
    answers, seen, encoded = sample(policy, weight)
    lengths = answers.mask.sum(1)
    assert len(set(lengths.tolist())) > 2  # ragged ends
    assert len(set(encoded.mask.sum(1).tolist())) > 2  # padded on the left
    n_own = 2 * len(PROMPTS)
    apart = 0.0
    for row, t, q, pi, mu in by_brute_force(policy, encoded, answers, n_own, weight, (2, 3)):
        found = seen[t, row]
        assert abs(float(found.exp().sum()) - 1) < 1e-5
        assert float((q * (q.log() - found)).sum()) < most
        apart = max(apart, float((pi * (pi.log() - mu.log())).sum()))
        token = answers.tokens[row, t]
        for kept, p in ((answers.log_pi, pi), (answers.log_mu, mu)):
            if not torch.isnan(kept[row, t]):
                assert abs(float(kept[row, t] - p[token].log())) < 1e4 * most
    assert apart > 0.1  # pi and mu do differ, or nothing would be shown


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_at_weight_0_and_1_the_mixture_is_the_policy_and_the_reference(kind):
    policy = make_policy(kind)
    with_zero, _, _ = sample(policy, 0.0, own=0, mixed=2)
    own, _, _ = sample(policy, 0.0, own=2, mixed=0)
    assert torch.equal(with_zero.tokens, own.tokens)
    assert torch.equal(with_zero.log_pi, own.log_pi)
    with_one, _, _ = sample(policy, 1.0, own=0, mixed=2)
    assert bool(torch.isnan(with_one.log_pi[with_one.mask]).all())
    again = make_policy(kind, moved=0.0)  # a policy that is its own reference
    reference, _, _ = sample(again, 0.0, own=2, mixed=0)
    assert torch.equal(with_one.tokens, reference.tokens)
    assert not torch.equal(with_one.tokens, own.tokens)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_decoding_and_a_teacher_forced_pass_agree(kind, temperature):
    policy = make_policy(kind, dtype=torch.float32)
    answers, _, encoded = sample(policy, 0.4, own=0, sampling=Sampling(LENGTH, temperature))
    rows = encoded.rows(torch.arange(len(PROMPTS)).repeat_interleave(3))
    for kept, reference in ((answers.log_pi, False), (answers.log_mu, True)):
        found = score(
            policy,
            rows,
            answers.tokens,
            answers.mask,
            reference=reference,
            temperature=temperature,
        )
        assert float((found.log_prob - kept).detach().abs().max()) < 1e-4


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("length", [1, LENGTH])
def test_answers_that_share_their_prompts_pass_are_scored_the_same(kind, length, monkeypatch):
    policy = make_policy(kind)
    answers, _, encoded = sample(policy, 0.4, own=0, sampling=Sampling(length))
    index = torch.arange(len(PROMPTS)).repeat_interleave(3)
    for reference in (False, True):
        found, grads = [], []
        for least, prompts in ((0, encoded), (10**9, encoded), (0, encoded.rows(index))):
            monkeypatch.setattr("nlhf.language.scoring.SHARED", least)
            chosen = index if prompts is encoded else None
            given = (policy, prompts, answers.tokens, answers.mask)
            scores = score(*given, index=chosen, reference=reference, hidden=True)
            found.append((scores.log_prob, scores.log_all, scores.hidden))
            if not reference:
                loss, parameters = scores.log_prob.square().sum(), policy.trainable().values()
                grads.append(torch.autograd.grad(loss, list(parameters)))
        for shared, once, repeated in zip(*found, strict=True):
            torch.testing.assert_close(shared, repeated, rtol=0, atol=1e-12)
            assert torch.equal(once, repeated)
        for shared, _, repeated in zip(*grads, strict=True):
            # transformers' norms are of float32 whatever the weights
            assert float((shared - repeated).norm() / repeated.norm()) < 1e-6


def test_an_answer_does_not_depend_on_its_batch():
    policy = make_policy("lora")
    together, _, _ = sample(policy, 0.5, own=0, mixed=1)
    draws = draw_uniforms(len(PROMPTS), LENGTH, torch.Generator().manual_seed(1))
    for i, prompt in enumerate(PROMPTS):
        alone = decode(
            policy, policy.encode([prompt]), 0, 1, 0.5, Sampling(LENGTH), draws[i : i + 1]
        )
        n = int(alone.mask.sum())
        assert n == int(together.mask[i].sum())
        assert torch.equal(alone.tokens[0, :n], together.tokens[i, :n])


def test_rows_end_by_themselves():
    policy = make_policy()
    answers, _, _ = sample(policy, 0.5, own=4, mixed=4)
    end = policy.end_ids[0]
    for tokens, mask, ended in zip(answers.tokens, answers.mask, answers.ended, strict=True):
        inside = tokens[mask]
        assert bool(ended) == (end in inside.tolist())
        assert end not in inside[:-1].tolist()
        assert bool((mask[1:] <= mask[:-1]).all())
        assert bool(ended) or bool(mask.all())
    assert int(answers.ended.sum()) > 0


def test_samples_have_the_mixture_s_frequencies():
    policy = make_policy()
    n = 20000
    answers, seen, _ = sample(policy, 0.3, own=0, mixed=n, sampling=Sampling(1), prompts=["a b"])
    expected = n * seen[0, 0].exp()
    counted = torch.bincount(answers.tokens[:, 0], minlength=len(expected))
    chi = float(((counted - expected) ** 2 / expected).sum())
    assert chi < 20.5  # the 0.1 % quantile with 5 degrees of freedom


def test_cuts_keep_the_most_likely_tokens_of_the_mixture():
    log_q = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64).log()
    kept = lambda k, p: torch.isfinite(truncated(log_q, k, p))[0].tolist()  # noqa: E731
    assert kept(2, None) == [False, True, False, True]
    assert kept(None, 0.39) == [False, True, False, False]
    assert kept(None, 0.41) == [False, True, False, True]
    assert kept(None, 1.0) == [True] * 4
    assert kept(9, None) == [True] * 4
    # 0.4 of the 0.9 that the three keep is 0.44: two reach 0.5
    assert kept(3, 0.5) == [False, True, False, True]


def test_cuts_apply_to_the_mixture_s_rows_and_to_own_rows_only_if_asked():
    policy = make_policy()
    sampling = Sampling(LENGTH, top_k=1)
    answers, seen, _ = sample(policy, 0.5, sampling=sampling)
    best = seen.argmax(-1).T
    n_own = 2 * len(PROMPTS)
    in_mixture = answers.mask[n_own:]
    assert torch.equal(answers.tokens[n_own:][in_mixture], best[n_own:][in_mixture])
    assert not torch.equal(answers.tokens[:n_own], best[:n_own])
    greedy, seen, _ = sample(policy, 0.5, sampling=Sampling(LENGTH, top_k=1, truncate_own=True))
    best = seen.argmax(-1).T
    assert torch.equal(greedy.tokens[greedy.mask], best[greedy.mask])


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neox", "qwen2"])
def test_other_families_of_models_are_padded_and_cached_right(family):
    policy = make_policy()
    model = other_model(family)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    policy = Policy(moved, model, policy.tokenizer, policy.end_ids, policy.pad_id, 64, family)
    answers, seen, encoded = sample(policy, 0.3)
    for row, t, q, _, _ in by_brute_force(policy, encoded, answers, 8, 0.3, (2, 3)):
        assert float((q * (q.log() - seen[t, row])).sum()) < 1e-10


def other_model(family):
    common = {"vocab_size": 6, "num_hidden_layers": 2, "hidden_size": 16}
    common |= {"num_attention_heads": 2, "bos_token_id": None, "eos_token_id": None}
    common |= {"pad_token_id": None}
    special = {
        "gpt2": {"n_positions": 64},
        "opt": {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
        "gpt_neox": {"intermediate_size": 32, "max_position_embeddings": 64},
        "qwen2": {"num_key_value_heads": 1, "intermediate_size": 32},
    }[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = transformers.AutoConfig.for_model(family, **common, **special)
        return transformers.AutoModelForCausalLM.from_config(config).double()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 1, "temperature": 0.0}, "temperature=0.0"),
        ({"max_new_tokens": 1, "temperature": float("nan")}, "temperature=nan"),
        ({"max_new_tokens": 1, "top_k": 0}, "top_k=0"),
        ({"max_new_tokens": 1, "top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_wrong_sampling_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Sampling(**settings)


def test_a_wrong_weight_and_a_full_context_are_refused():
    policy = make_policy()
    with pytest.raises(InputError, match=r"mixture weight 1\.5"):
        sample(policy, 1.5)
    policy.context = 10
    with pytest.raises(InputError, match=r"a prompt of 7 tokens .* the 10 tokens"):
        sample(policy, 0.5)
