"""A setting of the games and of the language models that has no effect is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import Config, load_config
from bridge.errors import InputError
from nlhf.config import (
    LanguageConfig,
    NashConfig,
    PreferenceConfig,
    TournamentConfig,
    WarmStartConfig,
)

NEEDED = {
    LanguageConfig: {"model": "tiny:a,b", "prompts": "p.jsonl", "preference": "a:b"},
    NashConfig: {},
    PreferenceConfig: {"pairs": "p.jsonl"},
    WarmStartConfig: {"model": "tiny:a,b", "examples": "e.jsonl"},
}


@pytest.mark.parametrize(
    ("model", "sets", "said"),
    [
        (
            NashConfig,
            ["ema_rate=0.5"],
            "=nash-md; it is read with algorithm=nash-ema",
        ),
        (NashConfig, ["tau_schedule=linear"], "without tau_start"),
        (NashConfig, ["game=elo", "smoothing=1"], "game=elo, which has no votes"),
        (LanguageConfig, ["shard=fsdp"], "in several, which torchrun starts"),
        (NashConfig, ["eta_schedule=linear"], "without eta_end"),
        (NashConfig, ["eta_end=0.1"], "without eta, where it begins"),
        (NashConfig, ["mixture_end=0.1"], "without mixture, where it begins"),
        (NashConfig, ["mixture=0.1", "mixture_schedule=linear"], "without mixture_end"),
        (LanguageConfig, ["ema_rate=0.05"], "it is read with algorithm=nash-ema"),
        (LanguageConfig, ["algorithm=self-play", "mixture=0.2"], "algorithm=nash-md or online-ipo"),
        (LanguageConfig, ["algorithm=rlhf", "opponents=2"], "it is read with algorithm=nash-md"),
        (LanguageConfig, ["algorithm=online-ipo", "kl=full"], "it is read with algorithm=nash-md"),
        (LanguageConfig, ["algorithm=online-ipo", "baseline=half"], "has no effect"),
        (NashConfig, ["algorithm=sppo", "method.players=3"], "it is read with algorithm=mnpo"),
        (NashConfig, ["method.magnet_every=3"], "it is read with algorithm=magnetic"),
        (LanguageConfig, ["method.eta=3.0"], "it is read with algorithm=comal"),
        (LanguageConfig, ["algorithm=sppo", "method.alpha=1.0"], "read with algorithm=xpo"),
        (LanguageConfig, ["algorithm=sppo", "tau=0.2"], "read with algorithm=nash-md"),
        (LanguageConfig, ["algorithm=sppo", "kl=full"], "read with algorithm=nash-md"),
        (LanguageConfig, ["reference_rate=0.1"], "without reference=ema"),
        (LanguageConfig, ["reference=ema", "reference_every=3"], "moves after every step"),
        (LanguageConfig, ["reward=a:b"], "it is read with algorithm=rlhf"),
        (LanguageConfig, ["mixture_schedule=linear"], "without mixture_start"),
        (LanguageConfig, ["lora.alpha=8"], "without lora.rank"),
        (LanguageConfig, ["optimizer.momentum=0.5"], "it is read with method=momentum"),
        (LanguageConfig, ["optimizer.value_learning_rate=0.1"], "without baseline=learned"),
        (PreferenceConfig, ["head=bradley-terry", "planes=4"], "with head=skew-symmetric"),
        (PreferenceConfig, ["encoder_rate=0.1"], "with tune=frozen"),
        (PreferenceConfig, ["max_length=99"], "with model=hashed"),
        (PreferenceConfig, ["holdout=0", "check=0", "holdout_by=pair"], "hold nothing out"),
        (WarmStartConfig, ["held_out=h.jsonl", "holdout=0.1"], "with held_out"),
        (WarmStartConfig, ["lora.targets=['q']"], "without lora.rank"),
    ],
)
def test_it_is_refused_with_what_would_read_it(
    model: type[Config], sets: list[str], said: str
) -> None:
    with pytest.raises(InputError, match="has no effect") as caught:
        load_config(model, flags=NEEDED[model], sets=sets)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"--set {sets[-1]}: ")


@pytest.mark.parametrize(
    ("model", "sets"),
    [
        (NashConfig, ["algorithm=nash-ema", "ema_rate=0.5"]),
        (NashConfig, ["eta=1", "eta_end=0.1", "eta_schedule=linear"]),
        (LanguageConfig, ["algorithm=online-ipo", "mixture=0.2", "mixture_start=0.1"]),
        (LanguageConfig, ["algorithm=rlhf", "reward=a:b", "baseline=half"]),
        (LanguageConfig, ["algorithm=mnpo", "method.players=4", "method.eta=0.5"]),
        (LanguageConfig, ["algorithm=sppo", "measure_exact=true", "tau=0.2"]),
        (LanguageConfig, ["reference=ema", "reference_rate=0.1"]),
        (LanguageConfig, ["algorithm=comal", "reference_every=0"]),
        (NashConfig, ["algorithm=mnpo", "method.players=4", "eta=0.5"]),
        (LanguageConfig, ["lora.rank=4", "lora.alpha=8", "baseline=learned"]),
        (LanguageConfig, ["baseline=learned", "optimizer.value_learning_rate=0.1"]),
        (PreferenceConfig, ["planes=2", "tune=lora", "encoder_rate=0.1", "model=x"]),
        (WarmStartConfig, ["holdout=0.2"]),
    ],
)
def test_what_is_read_is_taken(model: type[Config], sets: list[str]) -> None:
    assert isinstance(load_config(model, flags=NEEDED[model], sets=sets), model)


def test_several_processes_read_how_they_share_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = load_config(LanguageConfig, flags=NEEDED[LanguageConfig], sets=["shard=fsdp"])
    assert config.shard == "fsdp"


@pytest.mark.parametrize(
    "each",
    ["generation.temperature=0.5", "generation.max_new_tokens=8", "draws=3", "batch_size=2",
     "chat=false", "end_token=x"],
)  # fmt: skip
def test_files_of_answers_are_not_drawn(each: str, tmp_path: Path) -> None:
    policies = [str(tmp_path / name) for name in "ab"]
    for path in policies:
        Path(path).write_text("{}")
    flags = {"policies": policies, "prompts": "p.jsonl", "preference": "a:b"}
    with pytest.raises(InputError, match=f"--set {each}: has no effect .* with a model"):
        load_config(TournamentConfig, flags=flags, sets=[each])
    flags["policies"] = [policies[0], "tiny:a,b"]
    assert isinstance(load_config(TournamentConfig, flags=flags, sets=[each]), TournamentConfig)


@pytest.mark.parametrize("model", NEEDED)
def test_a_log_that_has_every_key_is_read(model: type[Config]) -> None:
    config = load_config(model, flags=NEEDED[model])
    log = config.model_dump(mode="json")
    assert load_config(model, base=log, base_name="run.h5") == config
