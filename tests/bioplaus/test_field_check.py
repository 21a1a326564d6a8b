"""`check_field` passes every shipped field and finds errors that are planted in it."""

import dataclasses

import pytest
import torch

import bioplaus.fields.connections.conv as conv_module
from bioplaus.activations import ACTIVATIONS, Activation
from bioplaus.errors import InputError
from bioplaus.field_check import FieldMismatch, check_field
from bioplaus.fields import Conv, Dense, FunctionField, Lateral, Layer, LayeredField, LeakyField
from bioplaus.fields.connections.dense import DenseWire
from bioplaus.fields.connections.lateral import LateralWire
from tests.fields import clipped
from tests.graphs import FIELDS, POOLINGS, batch, convolutional, dale, gated, sparse


def leaky(sizes=(5, 6, 4, 3), **kw):
    scale = {} if kw.get("tied") else {"feedback_gain": 0.4}
    g = torch.Generator().manual_seed(0)
    return LeakyField(sizes, **({"gain": 0.6, "generator": g} | scale | kw))


LEAKY = [
    {},
    {"coordinates": "activity", "activation": "sigmoid-4s-2", "linear_output": False},
    {"tied": True},
    {"sizes": (5, 3)},
    clipped(),
    clipped(linear_output=False),
]


@pytest.mark.parametrize("kw", LEAKY, ids=str)
def test_leaky_fields_pass(kw):
    assert not check_field(leaky(**kw)).failures


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_every_connection_pass(name):
    assert not check_field(FIELDS[name]()).failures


@pytest.mark.parametrize("rho", ACTIVATIONS)
def test_every_activation_passes(rho):
    check_field(leaky((4, 5, 3), activation=rho))


def test_a_function_whose_rule_sees_activities_passes():
    check_field(gated(n=6, activity=torch.tanh))


def test_a_box_and_a_fixed_weight_pass():
    check_field(gated(n=6, box=(0.0, 1.0)))
    layers = [Layer(4, "clipped"), Layer(5, "tanh"), Layer(3, "linear")]
    connections = [
        Dense(0, 1),
        Dense(1, 2, trainable=False),
        Dense(2, 1, gain=0.3),
        Dense(2, 3),
        Dense(3, 1, gain=0.3),
    ]
    field = LayeredField(3, layers, connections)
    assert "forward.2" not in field.parameters
    check_field(field)


def found(field):
    with pytest.raises(FieldMismatch) as caught:
        check_field(field)
    return {row.what for row in caught.value.report.failures}


def test_a_wrong_transpose_is_found(monkeypatch):
    def add_transposed(self, base, v, out):
        back = (
            v @ self.weight.T if self.weight.shape[0] == self.weight.shape[1] else v @ self.weight
        )
        return out.copy_(back if base is None else base + back)

    monkeypatch.setattr(DenseWire, "add_transposed", add_transposed)
    assert any(what.startswith("vjp") for what in found(leaky((5, 6, 6, 3))))


def test_a_forgotten_mask_is_found(monkeypatch):
    monkeypatch.setattr(Dense, "wire", lambda self, *parts: DenseWire(self, *parts))
    wrong = found(sparse(0))
    assert any(what.startswith("driven") for what in wrong)


def test_a_diagonal_that_learns_is_found(monkeypatch):
    monkeypatch.setattr(LateralWire, "update_into", DenseWire.update_into)
    assert any(what.startswith("local_update of lateral.1") for what in found(dale()))


def test_a_stale_weight_is_found(monkeypatch):
    class Stale(DenseWire):
        def __post_init__(self):
            super().__post_init__()
            self.transposed = self.weight.T.clone()

        def add(self, base, r, out=None):
            return torch.addmm(
                r.new_zeros(1) if base is None else base, r, self.transposed, out=out
            )

    monkeypatch.setattr(Dense, "wire", lambda self, *parts: Stale(self, *parts))
    assert any("after a change in place" in what for what in found(leaky()))


def test_layers_of_one_group_that_act_on_one_another_are_found():
    field = leaky()
    field.groups = ((0, 1), (2,))
    assert "settling group (0, 1)" in found(field)


def test_wrong_pooling_is_found(monkeypatch):
    spread = conv_module._PoolWire._before_pooling
    monkeypatch.setattr(
        conv_module._PoolWire, "_before_pooling", lambda self, v: 4 * spread(self, v)
    )
    wrong = found(convolutional("max"))
    assert any(what.startswith("vjp") for what in wrong)
    assert any(what.startswith("local_update of forward.2") for what in wrong)
    wide = conv_module._ConvWire.wide.fget
    monkeypatch.setattr(conv_module._ConvWire, "wide", property(lambda self: 4 * wide(self)))
    wrong = found(convolutional("average"))
    assert any(what.startswith("driven") for what in wrong)
    assert any(what.startswith("vjp") for what in wrong)


def test_a_mask_of_a_kernel_that_the_update_forgets_is_found(monkeypatch):
    pull = conv_module._ConvWire.pull

    def without_mask(self, below, above):
        conv = dataclasses.replace(self.connection, mask=None)
        return pull(dataclasses.replace(self, connection=conv), below, above)

    mask = (torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    connections = [Conv(0, 1, pool="average", mask=mask), Dense(1, 2), Dense(2, 1, gain=0.3)]
    layers = [Layer((3, 4, 4)), Layer(3, "linear")]
    check_field(LayeredField((2, 8, 8), layers, connections))
    monkeypatch.setattr(conv_module._ConvWire, "pull", without_mask)
    wrong = found(LayeredField((2, 8, 8), layers, connections))
    assert any(what.startswith("local_update of forward.1") for what in wrong)


def test_a_slope_of_a_box_by_the_state_and_not_by_its_current_is_found(monkeypatch):
    def by_state(self, own, current, layer):
        box = self.specs[layer].box
        if box is None:
            return torch.ones_like(own)
        return ((own > box[0]) & (own < box[1])).to(own.dtype)

    monkeypatch.setattr(LayeredField, "layer_slope", by_state)
    assert any(what.startswith("jvp, far out") for what in found(leaky(**clipped())))


def test_a_buffer_that_is_added_to_is_found(monkeypatch):
    monkeypatch.setattr(DenseWire, "update_into", lambda self, out, r, post: out.add_(post.T @ r))
    assert any("into a buffer" in what for what in found(leaky()))


def test_a_wrong_slope_and_a_wrong_change_of_rho_are_found():
    tanh = ACTIVATIONS["tanh"]
    for part, rho in (
        ("derivative", dataclasses.replace(tanh, name="own", derivative=torch.tanh)),
        ("change", dataclasses.replace(tanh, name="own", change=lambda s, d: d)),
    ):
        assert any(what.startswith(part) for what in found(leaky(activation=rho)))


def test_a_bias_that_the_drive_forgets_is_found(monkeypatch):
    monkeypatch.setattr(LayeredField, "_spread_bias", _without_the_first(LayeredField._spread_bias))
    field = leaky()
    field.parameters["bias.1"].fill_(0.7)
    assert any(what.startswith("driven") for what in found(field))


def _without_the_first(spread):
    def forgetful(self, k, rows):
        import traceback

        from_drive = any(frame.name == "drive" for frame in traceback.extract_stack()[-3:])
        bias = spread(self, k, rows)
        return torch.zeros_like(bias) if from_drive else bias

    return forgetful


def test_bounds_that_are_too_low_are_found(monkeypatch):
    norms = LeakyField.parameter_norms
    monkeypatch.setattr(
        LeakyField,
        "parameter_norms",
        lambda self, x, s: {k: 0.9 * v for k, v in norms(self, x, s).items()},
    )
    assert any(what.startswith("parameter_norms") for what in found(leaky()))


def test_rows_that_act_on_one_another_are_found():
    field = gated(n=6)
    mixed = FunctionField(
        lambda p, x, s: field.mu(p, x, s) - 0.1 * s.mean(0),
        field.parameters,
        n=6,
        n_output=3,
        input=5,
    )
    assert "field, row by row" in found(mixed)


def test_a_formula_in_one_dtype_only_is_found():
    held = torch.randn(6, 6, dtype=torch.float64)
    fixed = FunctionField(
        lambda p, x, s: p["w"] * torch.tanh(s @ held + x.sum(1, True)) - s,
        {"w": torch.ones(6)},
        n=6,
        n_output=2,
        input=3,
    )
    assert found(fixed) == {"field in float32"}


def test_a_field_that_is_said_to_be_analytic_and_is_not_is_found():
    bent = FunctionField(
        lambda p, x, s: torch.where(s.real > 0, p["w"] * s, 0.1 * s.conj()) + x.sum(1, True) - s,
        {"w": torch.full((4,), 0.5)},
        n=4,
        n_output=2,
        input=3,
        holomorphic=True,
    )
    assert "field at complex states" in found(bent)


def test_inputs_are_asked_for_where_the_field_does_not_say_them():
    field = FunctionField(lambda p, x, s: p["w"] * x - s, {"w": torch.ones(3)}, n=3, n_output=1)
    with pytest.raises(InputError, match="give x="):
        check_field(field)
    assert not check_field(field, torch.rand(2, 3)).failures


def test_the_report_is_a_table_and_the_field_is_left_alone():
    field = leaky()
    before = {k: p.clone() for k, p in field.parameters.items()}
    report = check_field(field)
    assert "jvp, near rest" in repr(report)
    assert all(torch.equal(p, before[k]) for k, p in field.parameters.items())
    x, _ = batch(field)
    assert x.shape == (3, 5)


def test_an_activation_of_ones_own_needs_its_value_alone():
    swish = Activation("swish", lambda s: s * torch.sigmoid(s))
    check_field(leaky(activation=swish))
    check_field(leaky(activation=lambda s: torch.sin(s)))
    assert Conv(0, 1) == Conv(0, 1)
    assert Lateral(1) != Lateral(2)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("pool", POOLINGS)
@pytest.mark.parametrize(
    ("side", "settings", "above"),
    [
        (7, {"kernel": 3, "stride": 2}, 4),
        (5, {"kernel": 2, "stride": 1, "padding": 0}, 4),
        (6, {"kernel": 3, "stride": 2, "padding": 0}, 2),  # the last column is left out
        (4, {"kernel": 5, "stride": 1}, 4),
    ],
    ids=str,
)
def test_convolutions_of_every_shape_pass(side, settings, above, pool, masked):
    window = 1 if pool == "none" else 2
    g, k, top = torch.Generator().manual_seed(0), settings["kernel"], above // window
    mask = (torch.rand(3, 2, k, k, generator=g) < 0.7).float() if masked else None
    signs = torch.tensor([1.0, -1.0]) if masked else None
    up = Conv(1, 2, pool=pool, window=window, mask=mask, signs=signs, **settings)
    layers = [Layer((2, side, side)), Layer((3, top, top)), Layer(3, "linear")]
    connections = [Dense(0, 1), up, Dense(2, 3), Dense(3, 2, gain=0.3)]
    if (side + 2 * up.padding - k) % up.stride == 0:
        settings = settings | {"pool": pool, "window": window, "gain": 0.1}
        connections.append(Conv(2, 1, feedback=True, mask=mask, **settings))
    check_field(LayeredField(3, layers, connections, generator=g, dtype=torch.float64), rows=2)
