"""The running average of parameters against its closed form."""

import pytest
import torch

from bridge.averaging import Average
from bridge.errors import InputError


def test_the_average_is_the_weighted_sum_of_all_parameters_seen():
    g = torch.Generator().manual_seed(0)
    p = torch.randn(3, generator=g, dtype=torch.float64)
    seen, average = [p.clone()], Average({"p": p}, 0.8)
    for _ in range(30):
        p.add_(torch.randn(3, generator=g, dtype=torch.float64))
        seen.append(p.clone())
        average.update()
    decays = [min(0.8, (t + 1) / (t + 10)) for t in range(30)]
    expected, left = torch.zeros(3, dtype=torch.float64), 1.0
    for value, decay in zip(reversed(seen[1:]), reversed(decays), strict=True):
        expected += left * (1 - decay) * value
        left *= decay
    expected += left * seen[0]
    torch.testing.assert_close(average.values["p"], expected)
    with average.swapped():
        torch.testing.assert_close(p, expected)
    assert torch.equal(p, seen[-1])


def test_it_goes_on_from_its_state():
    p = torch.zeros(2)
    one = Average({"p": p}, 0.9)
    for _ in range(5):
        p.add_(1)
        one.update()
    other = Average({"p": p}, 0.9)
    other.load_state_dict({"steps": one.steps, "values": {"p": one.values["p"].clone()}})
    p.add_(1)
    one.update()
    other.update()
    assert torch.equal(one.values["p"], other.values["p"])
    other.assign()
    assert torch.equal(p, one.values["p"])


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, float("nan")])
def test_a_decay_out_of_range_is_named(decay):
    with pytest.raises(InputError, match=r"decay=.* must lie in \(0, 1\)"):
        Average({"p": torch.zeros(1)}, decay)
