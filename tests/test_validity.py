import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpipe.validity import enlarged, fill, restore, valid_of


def test_nodata_and_what_is_not_finite_is_invalid():
    pixels = np.float32([[0, 1, -9999], [np.nan, np.inf, 3]])
    assert valid_of(pixels, -9999).tolist() == [[True, True, False], [False, False, True]]
    assert valid_of(np.uint8([1, 0]), 0).tolist() == [True, False]
    assert valid_of(np.uint8([1, 0]), None) is None
    assert valid_of(np.uint8([1, 0]), np.nan) is None


def test_what_an_opacity_hides_is_invalid_and_the_opacity_itself_is_not():
    pixels = np.ones((2, 4, 3, 5), np.uint8)
    pixels[1, 3, 2, 4] = 0
    valid = valid_of(pixels, None, (3,))
    assert [list(at) for at in np.argwhere(~valid)] == [[1, band, 2, 4] for band in (0, 1, 2)]
    assert valid_of(pixels, None, (1, 3)) is None  # it is open whose they are
    assert valid_of(pixels[:1], None, (3,)) is None


@pytest.mark.parametrize("nodata", [-9999, 1e9, 0.5])
def test_a_nodata_number_that_the_type_has_not_means_nothing(nodata):
    assert valid_of(np.uint8([1, 0]), nodata) is None


def test_invalid_pixels_become_like_the_nearest_valid_one():
    pixels = np.array([[1, 9, 9, 9, 9, 2]], np.int16)
    for line in (pixels, pixels.T):
        filled = fill(line, line != 9, reach=5, rest=0)
        assert filled.ravel().tolist() == [1, 1, 1, 2, 2, 2]
    assert pixels[0, 1] == 9


def test_beyond_its_reach_a_value_does_not_spread():
    pixels = np.float32([[5] + [np.nan] * 6])
    assert fill(pixels, ~np.isnan(pixels), reach=2, rest=-1).tolist() == [[5, 5, 5, -1, -1, -1, -1]]


def test_a_plane_without_any_valid_pixel_is_all_the_rest():
    filled = fill(np.full((2, 3, 3), np.nan), np.zeros((2, 3, 3), bool), reach=9, rest=0.5)
    assert (filled == 0.5).all()


def test_each_band_has_its_own_gaps():
    pixels = np.uint8([[[0, 1]], [[2, 0]], [[0, 3]]])
    assert fill(pixels, pixels != 0, reach=1, rest=0).tolist() == [[[1, 1]], [[2, 2]], [[3, 3]]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0, 1))
def test_what_is_filled_in_depends_on_the_valid_numbers_in_reach_only(seed, reach, share):
    rng = np.random.default_rng(seed)
    pixels, valid = rng.random((30, 31)), rng.random((30, 31)) < share
    whole = fill(pixels, valid, reach=reach, rest=0)
    other = fill(np.where(valid, pixels, np.nan), valid, reach=reach, rest=0)
    assert np.array_equal(whole, other)  # nothing of the invalid numbers is left
    y, x = rng.integers(reach, 30 - reach), rng.integers(reach, 31 - reach)
    window = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
    part = fill(pixels[window], valid[window], reach=reach, rest=0)
    assert part[reach, reach] == whole[y, x]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_the_value_filled_in_is_that_of_a_nearest_pixel(seed, reach):
    rng = np.random.default_rng(seed)
    pixels, valid = rng.random((12, 13)), rng.random((12, 13)) < 0.1
    filled = fill(pixels, valid, reach=reach, rest=-1)
    known = np.argwhere(valid)
    for y, x in np.argwhere(~valid):
        square = [p for p in known if max(abs(p - (y, x))) <= reach]
        if square:
            distance = [((p - (y, x)) ** 2).sum() for p in square]
            nearest = [pixels[tuple(p)] for p, d in zip(square, distance, strict=True)]
            best = [v for v, d in zip(nearest, distance, strict=True) if d == min(distance)]
            assert filled[y, x] in best
        else:
            assert filled[y, x] == -1


def test_what_was_invalid_comes_back_enlarged():
    source = np.float32([[1, np.nan], [-9999, np.inf]])
    valid = valid_of(source, -9999)
    out, moved = restore(np.full((4, 4), 7, np.float32), source, valid, -9999)
    wanted = enlarged(source, 2)
    wanted[:2, :2] = 7
    assert np.array_equal(out, wanted, equal_nan=True)
    assert moved == 0


def test_a_valid_number_never_becomes_nodata():
    source, result = np.uint8([[0, 5]]), np.uint8([[0, 0, 0, 9], [0, 0, 3, 0]])
    out, moved = restore(result, source, valid_of(source, 0), 0)
    assert out.tolist() == [[0, 0, 1, 9], [0, 0, 3, 1]]
    assert moved == 2
    out, moved = restore(np.uint8([[255]]), np.uint8([[7]]), None, 255)
    assert (out.tolist(), moved) == ([[254]], 1)
    out, moved = restore(np.float32([[0.5]]), np.float32([[7]]), None, 0.5)
    assert (0.5 < out[0, 0] < 0.500001, moved) == (True, 1)
