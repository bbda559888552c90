"""Maps of an input and its result, on examples that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from napari_sr import maps, views
from napari_sr.maps import Pair, gradient_of, largest, lazily, limit, settled
from napari_sr.region import Box, cells
from napari_sr.run import Plan, Wish
from napari_sr.stack import Stack
from srpipe.errors import Cancelled
from srpipe.pixels import Range
from srpipe.settings import RunSettings

SCALE = 2
WHOLE = (0, 40), (0, 48)
"""Rows and columns of the result of the box in `pair`."""


def pair(low, high, *, done=None, within=(0, 1000), nodata=None):
    """A layer of (2, 24, 30), of which plane 1 but for 2 rows and 3 columns around is enlarged."""
    box = Box((1, 2, 3), (2, 22, 27))
    plan = Plan(SCALE, 8, True, cells(box, 8))
    layer = np.zeros((2, 24, 30), low.dtype)
    layer[1] = low
    wish = Wish(
        stack=Stack(layer, rgb=False),
        box=box,
        within=Range(*within),
        settings=RunSettings(model="toy"),
        nodata=nodata,
    )
    done = len(plan.cells) if done is None else done
    return Pair(wish, plan, Stack(np.asarray(high)[None], rgb=False), done)


def noise(shape, dtype="uint16"):
    return np.random.default_rng(1).integers(100, 900, shape).astype(dtype)


def test_the_gradient_of_a_slope_is_its_rise_over_two_pixels():
    slope = np.tile(np.arange(30, dtype=np.uint16) * 25, (24, 1))
    found = pair(slope, np.zeros((40, 48)))
    wanted = np.full((20, 24), np.sqrt(0.05**2 + 1e-6))  # there is more of the layer on all sides
    assert np.allclose(found.input_gradient((0,), (0, 20), (0, 24)), wanted)
    steep = np.tile(np.arange(40)[:, None] * 10.0, (1, 48))
    made = pair(slope, steep).output_gradient((0,), *WHOLE)
    assert np.allclose(made[1:-1], np.sqrt(0.02**2 + 1e-6))
    assert np.allclose(made[[0, -1]], np.sqrt(0.01**2 + 1e-6))  # half of it ends at the border


def test_a_result_that_is_brighter_all_over_is_so_by_its_residual_and_its_detail():
    found = pair(np.full((24, 30), 500, np.uint16), np.full((40, 48), 507, np.uint16))
    assert np.allclose(found.residual((0,), (0, 20), (0, 24)), 7)
    assert np.allclose(found.added_detail((0,), *WHOLE), 7)


@pytest.mark.parametrize("name", ["input_gradient", "residual", "output_gradient", "added_detail"])
def test_a_window_of_a_map_is_that_part_of_the_whole(name):
    make = getattr(pair(noise((24, 30)), noise((40, 48))), name)
    y, x = ((0, 20), (0, 24)) if name in ("input_gradient", "residual") else WHOLE
    assert np.allclose(make((0,), (5, 14), (7, 20)), make((0,), y, x)[5:14, 7:20], atol=1e-3)


def test_the_mask_says_why_a_pixel_is_not_to_be_trusted():
    low = np.full((24, 30), 500, np.uint16)
    low[2, 3] = 7  # the box's first pixel; 7 stands for nothing
    low[2, 4] = 65535
    low[2, 5] = 2000
    high = np.full((40, 48), 500, np.uint16)
    high[4, 4], high[0, 2] = 65535, 65535  # the second lies on what was saturated before
    mask = pair(low, high, done=8, nodata=7).mask((0,), *WHOLE)
    wanted = np.zeros((40, 48), np.uint8)
    wanted[:2, :6] = np.repeat([1, 2, 3], 2)
    wanted[4, 4] = 4
    wanted[32:, 32:] = 5  # the last of three by three tiles
    assert np.array_equal(mask, wanted)


def test_a_mask_does_not_look_at_opacity():
    low, high = noise((24, 30, 4), np.uint8) % 200 + 20, noise((40, 48, 4), np.uint8) % 200 + 20
    low[..., 3] = high[..., 3] = 255
    grey = pair(noise((24, 30)), noise((40, 48)), within=(0, 255))
    wish = replace(grey.wish, stack=Stack(np.stack([low, low]), rgb=True))
    one = replace(grey, wish=wish, result=Stack(high[None], rgb=True))
    assert not one.mask((0,), *WHOLE).any()


def test_colours_that_nobody_sees_are_no_measurements():
    low, high = np.full((24, 30, 4), 100, np.uint8), np.full((40, 48, 4), 100, np.uint8)
    low[2, 3] = 255, 255, 255, 0  # the box's first pixel
    grey = pair(noise((24, 30)), noise((40, 48)), within=(0, 255))
    wish = replace(grey.wish, stack=Stack(np.stack([low, low]), rgb=True))
    found = replace(grey, wish=wish, result=Stack(high[None], rgb=True)).mask((0,), *WHOLE)
    assert np.array_equal(np.argwhere(found), [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert found.max() == 1


def test_a_mask_of_floats_knows_gaps_and_no_limits():
    low = np.full((24, 30), 500.0, np.float32)
    low[2, 3] = np.nan
    mask = pair(low, np.full((40, 48), 500.0, np.float32)).mask((0,), *WHOLE)
    assert np.array_equal(np.argwhere(mask), [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert mask.max() == 1


def test_a_gap_does_not_spoil_the_map_around_it():
    low = np.full((24, 30), 500.0, np.float32)
    low[10, 10] = np.nan
    assert np.isfinite(pair(low, np.full((40, 48), 500.0)).residual((0,), (0, 20), (0, 24))).all()


def test_lazy_maps_and_those_of_one_plane_are_the_same_numbers():
    stack = Stack(noise((3, 30, 41)), rgb=False)
    make = gradient_of(stack, Range(0, 1000))
    lazy = lazily(make, stack.shape, np.dtype(np.float32), side=16)
    assert lazy.chunksize == (1, 16, 16)
    whole = make((2,), (0, 30), (0, 41))
    assert np.allclose(lazy[2].compute(), whole)
    assert np.allclose(settled(make, stack.shape, (2,), np.dtype(np.float32))[0], whole)


def test_opacity_is_no_colour():
    pixels = np.zeros((8, 9, 4), np.uint8)
    pixels[..., 3] = np.arange(9) * 20
    found = gradient_of(Stack(pixels, rgb=True), Range(0, 255))((), (0, 8), (0, 9))
    assert np.allclose(found, 1e-3)


def test_contrast_follows_nearly_all_numbers_and_is_never_empty():
    found = np.zeros((100, 100))
    found[0, :40] = -3
    found[1, 1] = np.nan
    assert largest(found) == 0 or largest(found) == 1e-6
    found[:2] = -3
    assert largest(found) == 3
    assert largest(np.full((2, 2), np.nan)) == 1e-6
    assert limit(lambda plane, y, x: np.full((9, 9), 2.0), (9, 9), ()) == 2


@pytest.mark.parametrize("name", ["input_gradient", "residual"])
def test_maps_stop_within_a_window_when_they_are_asked_to(name, monkeypatch):
    """All of a large map was made first, whoever had pressed Cancel."""
    make, made = getattr(Pair, name), []

    def counted(self, plane, y, x):
        made.append((y, x))
        return make(self, plane, y, x)

    def asked():
        return len(made) == 3

    monkeypatch.setattr(Pair, name, counted)
    monkeypatch.setattr(maps, "_SIDE", 4)
    given = pair(noise((24, 30)), noise((40, 48)))
    news = {
        "input_gradient": views.gradients(given, (0,), asked),
        "residual": views.judged(given, (0,), None, asked, doubt=False),
    }
    with pytest.raises(Cancelled):
        list(news[name])
    assert len(made) == 3
