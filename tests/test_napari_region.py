import pytest

from napari_sr.region import Box, around, at_slice, cells, whole
from srpipe.errors import ConfigError


def test_a_point_means_the_plane_nearest_to_it():
    assert at_slice((5, 9, 10, 12), (2.4, 8.6, 0, 0)) == Box((2, 8, 0, 0), (3, 9, 10, 12))


def test_a_point_outside_means_the_last_plane():
    assert at_slice((5, 10, 12), (17, 0, 0)) == Box((4, 0, 0), (5, 10, 12))


def test_a_rectangle_means_the_pixels_that_it_touches():
    box = whole((10, 12))
    assert around(box, [(2.6, 3.4), (5.4, 7.6)]) == Box((3, 3), (6, 9))
    assert around(box, [(-4, -4), (99, 99)]) == box


def test_a_rectangle_beside_the_layer_is_refused():
    with pytest.raises(ConfigError, match="no pixel of the layer"):
        around(whole((10, 12)), [(20, 0), (30, 5)])


def test_cells_cover_every_pixel_once():
    box = Box((1, 2, 3), (3, 12, 16))
    seen = {
        (cell.plane, y, x) for cell in cells(box, 4) for y in range(*cell.y) for x in range(*cell.x)
    }
    assert len(seen) == 2 * 10 * 13
    assert sum((c.y[1] - c.y[0]) * (c.x[1] - c.x[0]) for c in cells(box, 4)) == len(seen)
