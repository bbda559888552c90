"""Where results lie: their corners are those of their inputs, whatever the layer's transforms."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Image

from napari_sr.layers import lying, place_of, range_of
from napari_sr.world import Place
from srpipe.errors import ConfigError

sizes = st.floats(0.05, 20) | st.floats(-20, -0.05)
moves = st.floats(-1e3, 1e3)
angles = st.floats(-180, 180)


@st.composite
def layers(draw):
    """A layer of 2 to 4 axes with every transform that napari knows, and a part of it."""
    n = draw(st.integers(2, 4))
    upper = n * (n - 1) // 2
    shape = draw(st.tuples(*[st.integers(2, 9)] * n))
    rotate = np.eye(n)
    turn = np.radians(draw(angles))
    rotate[-2:, -2:] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = np.eye(n + 1)
    affine[:n, :n] += draw(st.floats(-0.3, 0.3)) * np.eye(n, k=1)
    affine[:n, n] = draw(st.lists(moves, min_size=n, max_size=n))
    layer = Image(
        np.zeros(shape, np.uint8),
        scale=draw(st.lists(sizes, min_size=n, max_size=n)),
        translate=draw(st.lists(moves, min_size=n, max_size=n)),
        rotate=rotate,
        shear=draw(st.lists(st.floats(-2, 2), min_size=upper, max_size=upper)),
        affine=affine,
        units=("micrometer",) * n,
        axis_labels=tuple("tzyx"[-n:]),
    )
    start = [draw(st.integers(0, length - 1)) for length in shape]
    stop = [draw(st.integers(a + 1, length)) for a, length in zip(start, shape, strict=True)]
    return layer, start, stop, draw(st.integers(1, 4))


def corners(start, stop):
    """Both outer corners of a box of pixels, as napari counts."""
    return np.array(start) - 0.5, np.array(stop) - 0.5


@given(layers())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_corners_of_a_part_stay_where_they_were(drawn):
    layer, start, stop, scale = drawn
    factors = [1] * (layer.ndim - 2) + [scale, scale]
    shape = (np.array(stop) - start) * factors
    where = lying(layer, place_of(layer).part(start, factors))
    result = Image(np.zeros(shape, np.uint8), **where)
    before = [layer.data_to_world(c) for c in corners(start, stop)]
    after = [result.data_to_world(c) for c in corners([0] * layer.ndim, shape)]
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9 * (1 + np.abs(before).max()))
    assert result.units == layer.units
    assert result.axis_labels == layer.axis_labels


def test_a_pixel_that_becomes_four_by_four_moves_three_eighths_back():
    place = Place(np.array([2.0, 3.0]), np.array([10.0, 20.0]), np.eye(2), np.eye(2)).part(
        (0, 0), (4, 4)
    )
    np.testing.assert_allclose(place.scale, (0.5, 0.75))
    np.testing.assert_allclose(place.translate, (10 - 0.375 * 2, 20 - 0.375 * 3))


def test_the_extent_of_the_world_stays_that_of_the_input():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((3, 5, 7)), scale=(4, 0.5, 0.25), translate=(1, 2, 3))
    viewer.add_image(
        np.zeros((3, 20, 28)), **lying(layer, place_of(layer).part((0, 0, 0), (1, 4, 4)))
    )
    extents = [each.extent.world for each in viewer.layers]
    pixels = [np.array(each.scale) / 2 for each in viewer.layers]
    outer = [e + np.stack([-p, p]) for e, p in zip(extents, pixels, strict=True)]
    np.testing.assert_allclose(outer[0], outer[1])


def test_a_number_type_that_is_too_wide_for_the_network_is_refused():
    layer = Image(np.arange(16, dtype=np.int32).reshape(4, 4), contrast_limits=(2, 9))
    with pytest.raises(ConfigError, match=r"int32 .* choose contrast limits"):
        range_of(layer, "number type")
    found = range_of(layer, "contrast limits")
    assert (found.low, found.high) == (2, 9)
