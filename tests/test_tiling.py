"""Where to cut: for all sizes, halos and alignments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpipe.errors import ConfigError
from srpipe.tiling import Span, Tiles, grid, smallest, spans, window

PRIMES = [1, 2, 3, 5, 7, 11, 13, 31, 61, 97, 101, 127, 131, 193, 197]


@st.composite
def cuts(draw, longest_fade=0):
    """A length and tiles that have room for it."""
    halo, alignment = draw(st.integers(0, 12)), draw(st.sampled_from([1, 3, 4]))
    fade = draw(st.integers(0, longest_fade))
    room = draw(st.integers(0, 40))
    size = 2 * halo + fade + 2 * alignment - 1 + room
    near = [n * size + d for n in (1, 2, 3) for d in (-1, 0, 1)]
    length = draw(st.sampled_from([*PRIMES, *near]) | st.integers(1, 3 * size + 1))
    return max(length, 1), Tiles(size=size, halo=halo, alignment=alignment, fade=fade)


blended = cuts(longest_fade=16)


@given(cuts())
@settings(max_examples=300)
def test_kept_parts_cover_the_line_once(cut):
    length, tiles = cut
    kept = [i for s in spans(length, tiles) for i in range(s.keep_from, s.keep_to)]
    assert kept == list(range(length))


@given(cuts() | blended)
@settings(max_examples=300)
def test_every_kept_pixel_has_its_halo_unless_the_image_ends(cut):
    length, tiles = cut
    for span in spans(length, tiles):
        assert span.read_from == 0 or span.keep_from - span.read_from >= tiles.halo
        assert span.read_to == length or span.read_to - span.keep_to >= tiles.halo
        assert span.read_from <= span.keep_from < span.keep_to <= span.read_to


@given(cuts() | blended)
@settings(max_examples=300)
def test_all_spans_are_equally_long_start_aligned_and_end_at_the_edge(cut):
    length, tiles = cut
    cut_spans = spans(length, tiles)
    lengths = {s.read_to - s.read_from for s in cut_spans}
    assert len(lengths) == 1
    assert lengths.pop() <= tiles.size
    assert all(s.read_from % tiles.alignment == 0 for s in cut_spans)
    assert cut_spans[0].read_from == 0
    assert cut_spans[-1].read_to == length


@given(cuts() | blended, st.sampled_from([1, 2, 3, 4, 8]))
@settings(max_examples=300)
def test_windows_sum_to_one_everywhere(cut, scale):
    length, tiles = cut
    total = np.zeros(length * scale)
    for span in spans(length, tiles):
        weights = window(span, scale)
        assert (weights >= 0).all()
        total[span.keep_from * scale : span.keep_to * scale] += weights
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)


@given(cuts() | blended)
def test_no_fewer_and_no_shorter_spans_would_do(cut):
    length, tiles = cut
    cut_spans = spans(length, tiles)
    size = cut_spans[0].read_to
    if size - tiles.alignment >= smallest(length, length, tiles):
        shorter = Tiles(size=size - 1, halo=tiles.halo, alignment=tiles.alignment, fade=tiles.fade)
        assert len(spans(length, shorter)) > len(cut_spans)


@given(blended, st.integers(1, 200))
def test_the_smallest_tile_works_and_one_less_does_not(cut, width):
    length, tiles = cut

    def of(size):
        return Tiles(size=size, halo=tiles.halo, alignment=tiles.alignment, fade=tiles.fade)

    fits = smallest(length, width, tiles)
    assert grid(length, width, of(fits))
    with pytest.raises(ConfigError, match=f"use a tile of {fits} px or more"):
        grid(length, width, of(fits - 1))


def test_an_image_smaller_than_a_tile_is_one_tile_of_its_own_size():
    assert spans(5, Tiles(size=64, halo=20, alignment=4)) == [Span(0, 5, 0, 5)]


def test_a_known_answer_from_pencil_and_paper():
    # two tiles of 12 cover 20 with 2 * 2 pixels read twice; the seam lies in the middle
    assert spans(20, Tiles(size=14, halo=2)) == [Span(0, 12, 0, 10), Span(8, 20, 10, 20)]
    # 21 = 1 modulo 4, so tiles of 13, starting at 0 and 8
    assert spans(21, Tiles(size=14, halo=2, alignment=4)) == [
        Span(0, 13, 0, 10),
        Span(8, 21, 10, 21),
    ]


def test_a_plane_is_cut_row_by_row_into_one_shape():
    cut = grid(30, 100, Tiles(size=40, halo=4))
    shapes = {(t.y.read_to - t.y.read_from, t.x.read_to - t.x.read_from) for t in cut}
    assert len(shapes) == 1
    assert shapes.pop()[0] == 30
    starts = [(t.y.read_from, t.x.read_from) for t in cut]
    assert starts == sorted(starts)
    covered = np.zeros((30, 100), int)
    for t in cut:
        covered[t.y.keep_from : t.y.keep_to, t.x.keep_from : t.x.keep_to] += 1
    assert (covered == 1).all()


def test_a_tile_without_room_for_its_halos_names_the_smallest_that_has():
    with pytest.raises(
        ConfigError, match="halo of 36 px on both sides; use a tile of 73 px or more"
    ):
        grid(500, 500, Tiles(size=64, halo=36))
