"""Where the time of a run's steps goes."""

import math

import torch

from nlhf.language.decoders import Decoder
from nlhf.language.evaluation import evaluate
from nlhf.language.stopwatch import PARTS, Stopwatch
from tests.policies import make_policy
from tests.recording import Recorder
from tests.trainers import make_trainer


def test_parts_add_up_also_after_an_error() -> None:
    ticks = iter(range(0, 100, 2))
    watch = Stopwatch(now=lambda: float(next(ticks)))
    for _ in range(3):
        with watch.part("scoring"):
            pass
    try:
        with watch.part("update"):
            next(ticks)
            raise KeyError
    except KeyError:
        pass
    assert watch.seconds == {"decoding": 0, "judging": 0, "scoring": 6, "update": 4}
    assert watch.shares(20.0)["scoring_share"] == 0.3
    assert math.isnan(watch.shares(0.0)["update_share"])


def test_a_step_has_all_parts_and_an_evaluation_none() -> None:
    trainer = make_trainer(make_policy(), prompts=["a", "b c"], length=3)
    assert trainer.watch.device == torch.device("cpu")
    trainer.step()
    before = dict(trainer.watch.seconds)
    assert set(before) == set(PARTS)
    assert min(before.values()) > 0
    evaluate(trainer.rollout, ["a"], 2, 0, 5)
    assert trainer.watch.seconds == before


def test_a_trainer_s_steps_are_the_same_with_recorded_decoding() -> None:
    found = []
    for recorder in (None, Recorder()):
        trainer = make_trainer(make_policy("lora"), prompts=["a", "b c"], length=6)
        trainer.decoder = Decoder(recorder=recorder)
        found.append([trainer.step() for _ in range(3)])
    assert recorder is not None
    assert recorder.told.count("record") == 1
    for plain, recorded in zip(*found, strict=True):
        assert plain.keys() == recorded.keys()
        for name, value in plain.items():
            torch.testing.assert_close(value, recorded[name], rtol=1e-9, atol=1e-9, equal_nan=True)
