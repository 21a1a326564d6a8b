"""Figures as matplotlib draws them: readable, comparable and distinguishable."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

pytest.importorskip("matplotlib")

from bridge.errors import InputError
from bridge.report import policies
from bridge.report.panels import Images, Line, Panel, caption_of_runs, drawn, over_runs
from bridge.report.style import COLOURS, apart, ink, plain

X = np.arange(1.0, 9)


def texts(figure: Any) -> list[Any]:
    """All texts of a laid-out figure, except empty ones."""
    figure.draw_without_rendering()
    found = [t for axis in figure.axes for t in (*axis.texts, axis.title, axis.xaxis.label)]
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            found += [
                tick.label1
                for tick in side.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
    return [text for text in found if text.get_text()]


def test_no_two_texts_overlap_however_lines_crowd() -> None:
    crowd = [Line(f"method {k}", X, 1 + 0.01 * k + 0 * X) for k in range(12)]
    panels = [
        Panel("Crowd", "neurons a unit", crowd, y_label="angle", references=[(1.05, "floor")]),
        Panel("Few", "rate", [Line("a", [25, 100, 400], [9, 3, 0.2])], True, True, y_label="error"),
        Panel("Many", "step", [Line("b", 1e5 * X, 10.0**-X)], True, y_label="residual"),
    ]
    figure = drawn(panels, columns=3, caption="one seed")
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(figure)]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        # letters do not fill their boxes
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        assert min(height, width) < 3, (one, other)
    assert {"method 0", "method 11", "floor", "a", "b"} <= {text for text, _ in boxes}


def test_ticks_are_plain_numbers_at_what_was_measured() -> None:
    lines = [Line("a", [25, 100, 400], [21, 2.7, 0.2])]
    axis = drawn([Panel("t", "rate, Hz", lines, True, True, y_label="angle")]).axes[0]
    axis.figure.draw_without_rendering()
    assert [t.get_text() for t in axis.get_xticklabels()] == ["25", "100", "400"]
    said = [t.get_text() for t in axis.get_yticklabels()]
    assert {"0.3", "1", "3", "10"} <= set(said)
    assert not any("$" in text for text in said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (6.0, "6"),
        (0.15, "0.15"),
        (-0.05, "\N{MINUS SIGN}0.05"),
        (12000.0, "12,000"),
        (1e-7, "1e-7"),
        (3e-5, "3e-5"),
        (2e6, "2e6"),
        (1.5e10, "1.5e10"),
    ],
)
def test_a_tick_is_written_as_people_do(value: float, said: str) -> None:
    assert plain(value) == said


def test_panels_of_one_quantity_have_one_axis() -> None:
    large, small = [Line("a", X, 80 + X)], [Line("a", X, X)]
    panels = [
        Panel("vector-field", "step", large, y_label="angle"),
        Panel("asym-ep", "step", small, y_label="angle", references=[(0, "")]),
        Panel("cost", "step", small),
        Panel("error", "step", large),
    ]
    axes = drawn(panels).axes
    assert axes[0].get_ylim() == axes[1].get_ylim()
    low, high = axes[0].get_ylim()
    assert low <= 0 < 88 <= high
    assert axes[2].get_ylim() != axes[3].get_ylim()


def test_every_panel_says_what_it_shows_once() -> None:
    panels = [
        Panel("cost", "epoch", [Line("cost", X, X)]),
        Panel("Error", "epoch", [Line("test", X, X)], y_label="error, %"),
    ]
    axes = drawn(panels).axes
    assert [axis.get_ylabel() for axis in axes] == ["cost", "error, %"]
    assert [axis.get_title(loc="left") for axis in axes] == ["", "Error"]
    # a line that is all that its axis shows needs no name
    assert [[t.get_text() for t in axis.texts] for axis in axes] == [[], ["test"]]


def legends(figure: Any) -> tuple[list[str], list[list[str]]]:
    """What legends say: of the figure, and of its panels."""
    below = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    own = [axis.get_legend() for axis in figure.axes]
    return below, [[t.get_text() for t in each.get_texts()] if each else [] for each in own]


@pytest.mark.parametrize(
    ("other", "below"),
    [({}, True), ({"label": "c"}, True), ({"style": 3}, False), ({"mark": "s"}, False)],
)
def test_a_legend_of_points_is_the_figures_only_where_it_is_true_of_each_panel(
    other: dict[str, Any], below: bool
) -> None:
    first, second = (Line(name, X, X, points=True, mark="o") for name in "ab")
    again = Line(**{"label": "b", "x": X, "y": X, "points": True, "mark": "o"} | other)
    panels = [Panel("one", "x", [first, second]), Panel("two", "x", [first, again])]
    names = ["a", "b", "c"] if "label" in other else ["a", "b"]
    own = [["a", "b"]] * 2
    assert legends(drawn(panels)) == ((names, [[], []]) if below else ([], own))


def test_lines_are_named_at_their_ends_unless_names_are_long() -> None:
    short, long = (Panel("t", "x", [Line(n, X, X), Line("b", X, 2 * X)]) for n in ("a", 40 * "a"))
    assert legends(drawn([short])) == ([], [[]])
    assert [t.get_text() for t in drawn([short]).axes[0].texts] == ["a", "b"]
    assert legends(drawn([long])) == ([40 * "a", "b"], [[]])


@pytest.mark.parametrize(
    ("wanted", "gap", "places"),
    [
        ([], 0.1, []),
        ([0.3], 0.1, [0.3]),
        ([0.5, 0.5, 0.9], 0.1, [0.45, 0.55, 0.9]),
        ([0.9, 0.1], 0.1, [0.9, 0.1]),
        ([0.0, 0.0, 0.0], 0.2, [0.0, 0.2, 0.4]),
        ([1.0, 1.0], 0.2, [0.8, 1.0]),
        ([-3.0, 5.0], 0.2, [0.0, 1.0]),
    ],
)
def test_labels_move_as_little_as_they_can(
    wanted: list[float], gap: float, places: list[float]
) -> None:
    np.testing.assert_allclose(apart(wanted, gap), places, atol=1e-12)


def test_labels_keep_their_order_and_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        wanted = rng.uniform(size=rng.integers(1, 12))
        gap = 0.9 / len(wanted)
        places = np.array(apart(wanted, gap))
        order = np.argsort(wanted, kind="stable")
        assert (np.diff(places[order]) >= gap - 1e-9).all()
        assert -1e-9 <= places.min() <= places.max() <= 1 + 1e-9
        # no set of places that are as far apart is nearer
        other = np.sort(rng.uniform(size=len(wanted)))
        if (np.diff(other) >= gap).all():
            assert ((places - wanted) ** 2).sum() <= ((other - wanted[order]) ** 2).sum() + 1e-9


@pytest.mark.parametrize("colour", COLOURS)
def test_letters_can_be_read_on_white(colour: str) -> None:
    parts = np.array([int(ink(colour)[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("runs", "mean", "band"),
    [
        ([[1, 2], [3, 6]], [2, 4], ([1, 2], [3, 6])),
        ([[1, np.nan], [3, np.inf]], [2, np.nan], ([1, np.nan], [3, np.nan])),
        ([[1, np.nan], [3, 6]], [2, 6], ([1, 6], [3, 6])),
        ([[1, 2]], [1, 2], None),
    ],
)
def test_the_band_of_runs_is_their_range(runs: Any, mean: ArrayLike, band: Any) -> None:
    line = over_runs("a", [0, 1], runs)
    np.testing.assert_array_equal(line.y, mean)
    given = None if line.low is None else (np.asarray(line.low), np.asarray(line.high))
    assert (given is None) == (band is None)
    if band is not None:
        np.testing.assert_array_equal(given, band)


def test_a_caption_says_what_bands_are() -> None:
    assert caption_of_runs(1) == "one seed"
    figure = drawn([Panel("t", "x", [Line("a", X, X)])], caption=caption_of_runs(5))
    assert "mean of 5 seeds" in figure.get_supxlabel()
    assert "their range" in figure.get_supxlabel()


def test_a_caption_stands_clear_of_a_legend() -> None:
    lines = [Line(40 * name, X, X) for name in "ab"]
    figure = drawn([Panel("t", "step", lines)], caption="what a reader must know " * 6)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    title = legend.get_title()
    assert title.get_text().startswith("what a reader")
    assert not figure.get_supxlabel()
    (axis,) = figure.axes
    below = axis.xaxis.label.get_window_extent().y0
    assert legend.get_window_extent().y1 <= below
    assert all(t.get_window_extent().y1 <= title.get_window_extent().y0 for t in legend.get_texts())


def test_images_share_one_scale_about_zero() -> None:
    arrays = np.stack([np.full((3, 4), 2.0), np.full((3, 4), -1.0), np.zeros((3, 4))])
    axis = drawn([Images("First layer", arrays, "weight")]).axes[0]
    low, high = axis.images[0].get_clim()
    assert -low == high == pytest.approx(2.0)
    tiles = np.asarray(axis.images[0].get_array())
    assert np.nanmax(tiles) == 2
    assert sorted(np.unique(tiles[np.isfinite(tiles)])) == [-1, 0, 2]
    # as many pixels as the images have
    assert np.isfinite(np.ma.filled(axis.images[0].get_array(), np.nan)).sum() == arrays.size


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0], [1e300, -1e300], [-1.0, 0.0]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_any_numbers_are_drawn(values: list[float], logarithmic: bool) -> None:
    line = Line("a", range(len(values)), values, values, values)
    figure = drawn([Panel("t", "step", [line], logarithmic, logarithmic)])
    figure.draw_without_rendering()
    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_a_picture_that_has_no_place_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.png"
    there.touch()
    for path, words in (
        (tmp_path / "a.gif", r"a\.gif: the name must end in \.png, \.svg or \.pdf"),
        (tmp_path / "no" / "a.png", "there is no folder"),
        (there, "exists; .*--overwrite"),
    ):
        with pytest.raises(InputError, match=words):
            policies.check_picture(path)
    policies.check_picture(there, overwrite=True)
    monkeypatch.setattr("bridge.runlog.output.os.access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written"):
        policies.check_picture(tmp_path / "a.png")
