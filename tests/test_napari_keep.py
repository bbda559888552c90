"""Results that grow on disk: every level is what the tiles so far make it."""

import gc

import numpy as np
import pytest

from napari_sr.keep import LAZY_BYTES, MEMORY_BYTES, Level, Pyramid, fits, letters
from napari_sr.region import cells, whole
from srpipe.errors import ConfigError

SIDE = 128


@pytest.fixture
def pyramid(tmp_path):
    """Makes pyramids."""
    pytest.importorskip("zarr")

    def make(shape, bands, dtype, *, rgb):
        return Pyramid(shape, bands, np.dtype(dtype), rgb=rgb, side=SIDE, folder=tmp_path)

    return make


@pytest.fixture
def grown(pyramid):
    """Makes a pyramid and gives it all tiles of an array, the last ones first."""

    def make(pixels, *, rgb):
        shape = pixels.shape[:-1] if rgb else pixels.shape
        made = pyramid(shape, pixels.shape[-1] if rgb else 1, pixels.dtype, rgb=rgb)
        for cell in reversed(cells(whole(shape), SIDE)):
            part = pixels[(*cell.plane, slice(*cell.y), slice(*cell.x))]
            made.put(cell, np.moveaxis(part, -1, 0) if rgb else part[None])
        return made

    return make


def halved(pixels):
    """The mean of each two by two, of an array (..., Y, X) with even sides."""
    *rest, height, width = pixels.shape
    return pixels.reshape(*rest, height // 2, 2, width // 2, 2).mean((-3, -1))


def noise(shape, dtype=np.float32):
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def test_the_levels_are_area_means_of_what_was_put(grown):
    pixels = noise((2, 768, 1024))
    made = grown(pixels, rgb=False)
    assert [level.shape for level in made.data] == [(2, 768, 1024), (2, 384, 512)]
    fine, coarse = made.finished()
    assert np.array_equal(fine.compute(), pixels)
    assert np.allclose(coarse.compute(), halved(pixels), rtol=1e-6)
    assert np.array_equal(np.asarray(made.data[1]), coarse.compute())


def test_colours_are_last_for_the_layer_and_an_axis_of_their_own_on_disk(grown):
    pixels = noise((2, 256, 640, 3), np.uint8)
    made = grown(pixels, rgb=True)
    level = made.data[0]
    assert (level.shape, level.ndim, level.array.shape) == (pixels.shape, 4, (3, 2, 256, 640))
    assert np.array_equal(made.finished()[0].compute(), pixels)
    for index in (
        (1,),
        (1, slice(3, 40), slice(7, 9)),
        (slice(0, 2), 5),
        (..., 2),
        (0, ..., slice(0, 2)),
        (0, 3, 4, 1),
        np.s_[:, 10:20, 30:50, :],
    ):
        assert np.array_equal(level[index], pixels[index]), index


def test_what_is_not_there_yet_is_nothing_and_is_read_again(pyramid):
    made = pyramid((256, 640), 1, np.uint8, rgb=False)
    level = made.data[0]
    assert isinstance(level, Level)
    assert not level[:SIDE, :SIDE].any()
    made.put(cells(whole((256, 640)), SIDE)[0], np.full((1, SIDE, SIDE), 9, np.uint8))
    assert (level[:SIDE, :SIDE] == 9).all()
    assert not level[:SIDE, SIDE:].any()


@pytest.mark.parametrize("rgb", [False, True])
def test_it_is_gone_with_the_last_array_that_reads_it(grown, tmp_path, rgb):
    pixels = noise((256, 640, 3) if rgb else (256, 640), np.uint8)
    made = grown(pixels, rgb=rgb)
    copy = made.finished()[0] * 1
    del made
    gc.collect()
    assert np.array_equal(copy.compute(), pixels)
    del copy
    gc.collect()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "labels", "rgb", "found"),
    [
        (0, (), False, ""),
        (1, (), False, "Z"),
        (2, (), False, "TZ"),
        (3, (), False, "TCZ"),
        (1, ("time",), False, "T"),
        (2, ("channel", "z"), False, "CZ"),
        (2, ("z", "t"), False, "TZ"),  # in no order that OME-Zarr has: by how many there are
        (1, ("channel",), True, "Z"),
    ],
)
def test_axes_have_the_letters_of_ome_zarr(count, labels, rgb, found):
    assert letters(count, labels, rgb=rgb) == found


def test_more_axes_than_ome_zarr_has_are_refused():
    with pytest.raises(ConfigError, match="take the current slice"):
        letters(4, (), rgb=False)
    with pytest.raises(ConfigError, match="take the current slice"):
        letters(3, (), rgb=True)


def test_memory_holds_less_of_what_was_on_disk():
    side = int(MEMORY_BYTES**0.5)
    assert fits((side, side), 1, np.dtype(np.uint8), lazy=False)
    assert not fits((side, side), 3, np.dtype(np.uint8), lazy=False)
    assert not fits((side, side), 1, np.dtype(np.uint8), lazy=True)
    assert fits((LAZY_BYTES // 4,), 1, np.dtype(np.float32), lazy=True)
