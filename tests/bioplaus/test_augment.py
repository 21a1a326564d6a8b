"""Pictures that are changed, and inputs that are normalised: what they must be, by other means."""

import numpy as np
import pytest
import torch

from bioplaus import Augment, Dataset
from bioplaus.data.normalising import FLOOR, normalised
from bioplaus.errors import InputError


def _g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures(b: int = 200) -> torch.Tensor:
    """Every pixel tells its picture, channel and place: no two are equal, none is zero."""
    return 1.0 + torch.arange(b * 2 * 6 * 5, dtype=torch.float64).view(b, 2, 6, 5)


def test_mirroring_exchanges_left_and_right_of_about_half():
    x = _pictures()
    seen = Augment(mirror=True)(x, _g())
    same = (seen == x).flatten(1).all(1)
    turned = (seen == x.flip(-1)).flatten(1).all(1)
    assert bool((same ^ turned).all())
    assert 70 < int(turned.sum()) < 130


def test_a_shift_moves_a_picture_and_leaves_zeros_behind():
    x, most = _pictures(400), 2
    seen = Augment(shift=most)(x, _g())
    moves = set()
    for one, moved in zip(x, seen, strict=True):
        fits = [
            (dy, dx)
            for dy in range(-most, most + 1)
            for dx in range(-most, most + 1)
            if torch.equal(_rolled(one, dy, dx), moved)
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) == (2 * most + 1) ** 2


def _rolled(picture: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    out = torch.zeros_like(picture)
    h, w = picture.shape[1:]
    for i in range(h):
        for j in range(w):
            if 0 <= i + dy < h and 0 <= j + dx < w:
                out[:, i, j] = picture[:, i + dy, j + dx]
    return out


def test_cutout_takes_one_square_of_all_channels():
    x = _pictures(300)
    seen = Augment(cutout=3)(x, _g())
    gone = seen == 0
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert torch.equal(seen[~gone], x[~gone])
    rows, columns = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].sum((1, 2)), rows * columns)  # a filled rectangle
    assert int(rows.max()) == int(columns.max()) == 3
    assert int((rows * columns == 9).sum()) > 60
    assert int(rows.min()) == 2  # it reaches over the edge


def test_same_seed_same_pictures_and_the_order_of_draws_goes_on():
    how, x = Augment(mirror=True, shift=1, cutout=2), _pictures(20)
    g, h = _g(3), _g(3)
    first, again = how(x, g), how(x, h)
    assert torch.equal(first, again)
    assert not torch.equal(how(x, g), first)


def _coloured() -> Dataset:
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=g, dtype=torch.float64)
    x = torch.randn(500, 12, generator=g, dtype=torch.float64) @ mixing + 3
    x = x.view(500, 3, 2, 2)
    return Dataset.from_arrays(x[:400], torch.arange(400) % 2, x[400:], torch.arange(100) % 2)


def test_standardised_channels_have_mean_zero_and_spread_one_and_tests_follow_training():
    data = _coloured()
    made = normalised(data, "standardise")
    by_channel = made.train.inputs.view(400, 3, 4)
    torch.testing.assert_close(
        by_channel.mean((0, 2)), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(by_channel.std((0, 2)), torch.ones(3, dtype=torch.float64))
    raw = data.train.inputs.view(400, 3, 4)
    expected = (data.test.inputs.view(100, 3, 4) - raw.mean((0, 2))[:, None]) / raw.std((0, 2))[
        :, None
    ]
    torch.testing.assert_close(made.test.inputs, expected.flatten(1))


def test_whitened_pixels_have_the_covariance_that_the_floor_leaves():
    data = _coloured()
    made = normalised(data, "whiten")
    values = np.linalg.eigvalsh(np.cov(data.train.inputs.numpy().T))
    left = np.sort(values / (values + FLOOR * values.mean()))
    got = np.linalg.eigvalsh(np.cov(made.train.inputs.numpy().T))
    np.testing.assert_allclose(np.sort(got), left, rtol=1e-8)
    # nearest to what it was: the matrix is symmetric
    a = data.train.inputs - data.train.inputs.mean(0)
    matrix = torch.linalg.lstsq(a, made.train.inputs).solution
    torch.testing.assert_close(matrix, matrix.T)


def test_equal_inputs_cannot_be_normalised():
    x = torch.cat([torch.zeros(8, 1, 2, 2), torch.rand(8, 1, 2, 2, generator=_g())], 1)
    data = Dataset.from_arrays(torch.cat([x, x[:, :1]], 1), torch.arange(8) % 2)
    with pytest.raises(InputError, match="are all equal"):
        normalised(data, "standardise")


@pytest.mark.parametrize("wrong", [{"shift": -1}, {"cutout": 1.5}, {"shift": True}])
def test_what_is_no_number_of_pixels_is_named(wrong):
    with pytest.raises(InputError, match="must be a whole number"):
        Augment(**wrong)
