"""What a training may have beside its rule does what it says, and nothing where it is not asked."""

import pytest
import torch

from bioplaus import AsymEP, Augment, Dataset, Settling, fit
from bioplaus.config import EqpropConfig
from bioplaus.costs import get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.fields.convolutional import convolutional
from bioplaus.phases import free_phase
from bioplaus.training import build
from bridge.config import load_config
from bridge.runlog import read_run
from tests.command_line import call, refused

SETTLING = Settling(tolerance=0, free_steps=4, nudged_steps=4, verify=False)
HOW = {"batch_size": 40, "learning_rate": 1e-2, "settling": SETTLING, "schedule": "constant"}


def _net(seed: int = 0, **settings):
    g = torch.Generator().manual_seed(seed)
    return convolutional((1, 8, 8), 3, (3, 4), feedback_gain=0.3, generator=g, **settings)


def _data(rows: int = 40) -> Dataset:
    g = torch.Generator().manual_seed(7)
    x = torch.rand(rows + 20, 8, 8, generator=g)
    y = (3 * x[:, :, :4].mean((1, 2)) / (x.mean((1, 2)) + 0.5)).long().clamp_max(2)
    return Dataset.from_arrays(x[:rows], y[:rows], x[rows:], y[rows:], num_classes=3)


def test_the_average_is_what_is_tested_and_kept():
    """One update an epoch: the weights of each are seen, and their average is taken by hand."""
    raw, seen = _net(), []
    start = {name: p.clone() for name, p in raw.parameters.items()}

    def see(row):
        seen.append({name: p.clone() for name, p in raw.parameters.items()})

    fit(raw, _data(), epochs=4, callbacks=see, **HOW)
    field = _net()
    history = fit(field, _data(), epochs=4, average=0.5, **HOW)
    expected = {name: p.clone() for name, p in start.items()}
    for t, weights in enumerate(seen):
        decay = min(0.5, (t + 1) / (t + 10))
        for name in expected:
            expected[name] = decay * expected[name] + (1 - decay) * weights[name]
    for name, p in field.parameters.items():
        torch.testing.assert_close(p, expected[name])
    data = _data()
    free = free_phase(field, data.test.inputs.view(-1, 1, 8, 8), settling=SETTLING)
    guess = free.s[:, field.output].argmax(1)
    wrong = 100 * float((guess != data.test.targets).double().mean())
    assert history.rows[-1].test_error == pytest.approx(wrong)


def test_smoothed_targets_are_what_the_rule_is_given():
    field, data = _net(), _data()
    y = one_hot(data.train.targets, 3, torch.float32)
    smooth = 0.8 * y + 0.2 / 3
    x = data.train.inputs.view(-1, 1, 8, 8)
    rule = AsymEP(settling=SETTLING, gate=0.1)
    update = rule(field, x, smooth, get_cost("cross-entropy")).updates
    before = {name: p.clone() for name, p in field.parameters.items()}
    fit(field, data, epochs=1, optimizer="sgd", estimator=AsymEP(), label_smoothing=0.2, **HOW)
    for name, p in field.parameters.items():
        torch.testing.assert_close(p - before[name], 1e-2 * update[name], rtol=1e-3, atol=1e-6)


def test_products_of_bfloat16_leave_states_and_updates_in_float32():
    field, data = _net(), _data()
    x, y = data.train.inputs.view(-1, 1, 8, 8), one_hot(data.train.targets, 3, torch.float32)
    rule, cost = AsymEP(settling=SETTLING), get_cost("cross-entropy")
    full = rule(field, x, y, cost)
    with torch.autocast("cpu", torch.bfloat16):
        few = rule(field, x, y, cost)
    assert few.free.s.dtype == few.nudged[0].deviation.dtype == torch.float32
    assert all(u.dtype == torch.float32 for u in few.updates.values())
    a, b = (torch.cat([e.updates[n].double().flatten() for n in full.updates]) for e in (full, few))
    cosine = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    assert 0.999 < cosine < 1 - 1e-9
    one, other = _net(), _net()
    fit(one, data, epochs=1, products="bfloat16", **HOW)
    fit(other, data, epochs=1, **HOW)
    assert not torch.equal(one.parameters["forward.1"], other.parameters["forward.1"])


def test_a_batch_in_parts_gives_the_update_of_the_whole():
    whole, parts = _net(), _net()
    fit(whole, _data(), epochs=2, optimizer="sgd", **HOW)
    fit(parts, _data(), epochs=2, optimizer="sgd", micro_shards=4, **HOW)
    for name, p in whole.parameters.items():
        torch.testing.assert_close(parts.parameters[name], p, rtol=1e-3, atol=1e-5)


def test_both_sides_of_a_picture_are_tested_together():
    field, data = _net(), _data()
    x = data.test.inputs.view(-1, 1, 8, 8)
    z = sum(
        free_phase(field, side, settling=SETTLING).s[:, field.output] for side in (x, x.flip(3))
    )
    wrong = 100 * float((z.argmax(1) != data.test.targets).double().mean())
    history = fit(
        field,
        data,
        epochs=1,
        test_mirrored=True,
        optimizer="sgd",
        **(HOW | {"learning_rate": 1e-12}),
    )
    assert history.rows[-1].test_error == pytest.approx(wrong)


def test_changed_pictures_come_from_the_run_s_seed():
    ends = []
    for seed in (0, 0, 1):
        field = _net()
        fit(field, _data(), epochs=2, augment=Augment(mirror=True, shift=1), seed=seed, **HOW)
        ends.append(field.parameters["forward.1"].clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_flat_inputs_of_a_dense_network_are_changed_as_pictures():
    sets = ["data.train_size=30", "data.test_size=10", "augment.shift=1", "network.hidden=[8]"]
    run = build(load_config(EqpropConfig, sets=sets))
    x = run.more.inputs(torch.arange(30))
    still = run.dataset.train.inputs
    assert x.shape == still.shape == (30, 784)
    moved = [not torch.equal(a, b) for a, b in zip(x, still, strict=True)]
    assert sum(moved) > 20
    torch.testing.assert_close(x.sum(1), still.sum(1))  # a digit does not reach the border


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"augment": Augment(shift=1)}, "augment is about pictures"),
        ({"test_mirrored": True}, "test_mirrored is about pictures"),
        ({"products": "bfloat16"}, "products=bfloat16 is of float32, not of torch.float64"),
        ({"label_smoothing": 0.1}, "label_smoothing is about classes"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"average": 1.5}, "average=1.5"),
        ({"products": "float16"}, 'products="float16"'),
        ({"augment": {"shift": 1}}, r"augment is dict; give a bioplaus.Augment"),
    ],
)
def test_what_does_not_fit_is_refused(asked, words):
    from bioplaus import LeakyField

    g = torch.Generator().manual_seed(0)
    field = LeakyField([4, 3, 2], generator=g, dtype=torch.float64)
    x = torch.rand(6, 4, generator=g, dtype=torch.float64)
    with pytest.raises(InputError, match=words):
        fit(field, (x, x[:, :2]), epochs=1, **asked)


def test_on_the_command_line(tmp_path):
    few = ["--epochs", 1, "--set", "data.train_size=100", "--set", "data.test_size=20"]
    few += ["--hidden", 8, "--out", tmp_path / "a.h5"]
    refused(call("eqprop-run", *few, "--set", "contraction.every=5"), "contraction.every", "limit")
    refused(call("eqprop-run", *few, "--set", "augment.shift=-1"), "augment.shift")
    done = call(
        "eqprop-run", *few, "--set", "contraction.limit=0.01", "--set", "contraction.every=1"
    )
    assert done.exit_code == 0, done.output
    run = read_run(tmp_path / "a.h5")
    acts = [event for event in run.events if event["kind"] == "contraction"]
    assert [act["step"] for act in acts] == [1, 2]
    epochs = run.table("epochs")
    assert epochs["loop_radius"][0] == pytest.approx(max(act["radius"] for act in acts))
    assert epochs["feedback_scale"][0] == pytest.approx(acts[0]["factor"] * acts[1]["factor"])
