import numpy as np
import pytest

from napari_sr.layers import box_of
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


@pytest.mark.parametrize("drawn", ["um", "nm"])
def test_a_region_is_where_it_is_seen_whatever_unit_a_layer_is_in(drawn):
    """The viewer's world is in the smallest unit among the layers."""
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    viewer, pixels = components.ViewerModel(), np.zeros((9, 32, 32), np.uint8)
    if not hasattr(viewer.dims, "units"):
        pytest.skip("before 0.9 napari converts no units")
    layers = [
        viewer.add_image(pixels, scale=(0.5, 0.2, 0.2), units=("um",) * 3),
        viewer.add_image(pixels, scale=(500, 200, 200), units=("nm",) * 3),
    ]
    viewer.dims.set_current_step(0, 3)
    corners = np.array([[1.5, 1, 1], [1.5, 1, 3], [1.5, 3, 3], [1.5, 3, 1]])
    corners *= {"um": 1, "nm": 1000}[drawn]
    shapes = viewer.add_shapes([corners], units=(drawn,) * 3)
    for layer in layers:
        assert box_of(layer, "current slice", viewer) == Box((3, 0, 0), (4, 32, 32))
        assert box_of(layer, "rectangle", viewer, shapes) == Box((3, 5, 5), (4, 16, 16))


@pytest.mark.parametrize("region", ["current slice", "rectangle", "current view"])
def test_a_cut_across_rows_and_columns_is_no_region(region):
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    viewer = components.ViewerModel()
    layer = viewer.add_image(np.zeros((10, 20, 30), np.uint8))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ConfigError, match=f"the {region} is a cut through the stack"):
        box_of(layer, region, viewer)
    assert box_of(layer, "whole layer", viewer) == Box((0, 0, 0), (10, 20, 30))
