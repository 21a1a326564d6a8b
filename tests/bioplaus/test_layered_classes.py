"""A class of layered fields states mu once, or is refused where it is written."""

from __future__ import annotations

import pytest
import torch

from bioplaus.errors import InputError
from bioplaus.fields import Dense, Layer, LayeredField
from bioplaus.fields.formula import FORMULA

LAYERS = (4, [Layer(8, "tanh"), Layer(3, "linear")], [Dense(0, 1), Dense(1, 2), Dense(2, 1)])


@pytest.mark.parametrize("name", FORMULA)
def test_a_second_formula_is_refused_by_name(name):
    with pytest.raises(InputError, match=rf"Lateral replaces LayeredField\.{name}, .* VectorField"):
        type("Lateral", (LayeredField,), {name: lambda self, *args: None})


def test_a_second_formula_that_is_inherited_is_refused():
    class Mixed:
        def current(self, r, drive, layer, out=None, wires=None):
            return r[layer]

    with pytest.raises(InputError, match=r"Lateral replaces LayeredField\.current"):
        type("Lateral", (Mixed, LayeredField), {})


def test_a_class_may_add_what_is_no_part_of_the_formula():
    class Frozen(LayeredField):
        def constrain(self):
            self.parameters["bias.1"].zero_()

    class Silent(Frozen):
        def initial_state(self, drive):
            return drive.new_zeros(len(drive), self.n)

    field = Silent(*LAYERS, generator=torch.Generator().manual_seed(0))
    field.parameters["bias.1"].fill_(1.0)
    field.constrain()
    assert not field.parameters["bias.1"].any()
