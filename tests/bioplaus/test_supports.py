"""`supports` says in one line what is missing, and it is the line of the refusal."""

import dataclasses

import pytest
import torch

from bioplaus import supports
from bioplaus.costs import get_cost
from bioplaus.engines import Brian2, integrate_rule
from bioplaus.errors import InputError
from bioplaus.estimators import ESTIMATORS, ORACLES, get_estimator
from bioplaus.fields import Dense, Layer, LayeredField
from bioplaus.phases import Settling
from tests.engines import require_brian2
from tests.fields import TIGHT, clipped, problem
from tests.graphs import FIELDS, batch

COST = get_cost("cross-entropy")
ALL = ESTIMATORS | ORACLES
FAST = Settling(tolerance=1e-6, free_steps=200, nudged_steps=200, verify=False)

NEEDS = {  # what each field lacks, by estimator; everything else is served
    "gated": {"holomorphic", "kolen-pollack"},
    "conv-max": {"holomorphic"},
    "conv-softmax": {"holomorphic"},
}


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("name", FIELDS)
def test_an_estimator_serves_a_field_or_refuses_at_once(name, estimator):
    field = FIELDS[name]()
    x, y = batch(field, rows=1)
    if estimator == "finite-difference" and sum(p.numel() for p in field.parameters.values()) > 200:
        pytest.skip("four phases a parameter")
    chosen = get_estimator(estimator)(settling=FAST)
    lacks = supports(field, COST, chosen)
    assert (lacks is not None) == (estimator in NEEDS.get(name, set()))
    if lacks is None:
        made = chosen(field, x, y, COST)
        assert {k: u.shape for k, u in made.updates.items()} == {
            k: p.shape for k, p in field.parameters.items()
        }
        assert all(bool(torch.isfinite(u).all()) for u in made.updates.values())
    else:
        assert "\n" not in lacks
        with pytest.raises(InputError) as refused:
            chosen(field, x, y, COST)
        assert str(refused.value) == lacks


def test_a_strong_nudge_and_many_parameters_are_named():
    field = problem().field
    assert "use a beta below 1" in (supports(field, beta=1.5) or "")
    assert supports(field, beta=1.5, nudging="one-sided") is None
    large = LayeredField(100, [Layer(60)], [Dense(0, 1)])
    assert "at most 5000 parameters" in (supports(large, estimator="finite-difference") or "")
    with pytest.raises(
        InputError,
        match=r"bta=0.1 is no setting of estimator=.*did you mean beta\? legal: settling",
    ):
        supports(field, bta=0.1)


def test_the_second_simulator_says_what_it_has_circuits_for():
    require_brian2()
    settling = dataclasses.replace(TIGHT, solver=Brian2())
    leaky, other = problem().field, FIELDS["sparse"]()
    assert supports(leaky, COST, "asym-ep", settling=settling) is None
    assert supports(problem(**clipped()).field, COST, settling=settling) is None
    lines = {
        "no circuit for estimator='dyadic'": supports(leaky, COST, "dyadic", settling=settling),
        "no circuit for a FunctionField": supports(FIELDS["gated"](), COST, settling=settling),
        "no equation for the cost": supports(
            leaky, lambda s, y: (s - y).abs().sum(1), settling=settling
        ),
    }
    for part, line in lines.items():
        assert part in (line or ""), line
    assert supports(other, COST, "asym-ep", settling=settling) is None
    with pytest.raises(InputError, match="no circuit for a LayeredField here; use a LeakyField"):
        integrate_rule(other, *batch(other)[:2], beta=0.1)  # pyright: ignore[reportArgumentType]
