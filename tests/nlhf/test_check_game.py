"""Where the line lies between rounding and a game that is none."""

import pytest
import torch

from nlhf.errors import InputError
from nlhf.games import random_games
from nlhf.regularised_game import check_game, uniform_reference


def game(dtype):
    return random_games(1, 5, torch.Generator().manual_seed(0))[0].to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_few_roundings_are_no_mistake_and_a_hundred_are(dtype):
    eps = torch.finfo(dtype).eps
    for off, wrong in ((0.0, False), (4 * eps, False), (100 * eps, True), (1e-4, True)):
        P = game(dtype)
        P[1, 3] += off
        if wrong:
            with pytest.raises(InputError, match=r"P \+ P\^T differs from 1"):
                check_game(P, uniform_reference(P), 0.1)
        else:
            check_game(P, uniform_reference(P), 0.1)


@pytest.mark.parametrize("total", [0.999, 1.001])
def test_a_reference_that_is_a_thousandth_off_is_no_distribution(total):
    P = game(torch.float64)
    with pytest.raises(InputError, match="no distribution"):
        check_game(P, uniform_reference(P) + torch.tensor(total).log(), 0.1)


@pytest.mark.parametrize("entry", [-1e-6, 1 + 1e-6])
def test_a_probability_just_outside_of_0_and_1_is_refused(entry):
    P = game(torch.float64)
    P[1, 3], P[3, 1] = entry, 1 - entry
    with pytest.raises(InputError, match="between 0 and 1"):
        check_game(P, uniform_reference(P), 0.1)
