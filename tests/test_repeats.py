from dataclasses import replace

import numpy as np
import pytest

from srpipe.io.frames import Frame
from srpipe.jobs.repeats import Repeats
from srpipe.pixels import Layout

LAYOUT = Layout(family="yuv", sub_y=2, sub_x=2, full_range=False, matrix=1)


def frame(luma, pts, *, chroma=128, layout=LAYOUT):
    planes = np.full((4, 6), luma), np.full((2, 3), chroma), np.full((2, 3), 128)
    return Frame(planes=tuple(p.astype(np.uint8) for p in planes), layout=layout, pts=pts)


@pytest.fixture
def computed():
    return []


@pytest.fixture
def repeats(computed):
    def transform(frame):
        computed.append(frame.pts)
        return replace(frame, planes=tuple(255 - plane for plane in frame.planes))

    return Repeats(transform)


def test_a_frame_that_equals_the_one_before_gets_its_result_at_its_own_time(repeats, computed):
    frames = [frame(luma, pts) for pts, luma in enumerate([5, 5, 5, 6, 5])]
    made = [repeats(each) for each in frames]
    assert computed == [0, 3, 4]
    assert repeats.count == 2
    assert [m.pts for m in made] == [0, 1, 2, 3, 4]
    for before, after in zip(frames, made, strict=True):
        assert all(map(np.array_equal, [255 - p for p in before.planes], after.planes))


def test_frames_that_are_merely_alike_are_computed(repeats, computed):
    for pts, other in enumerate(
        [
            frame(5, 0),
            frame(5, 1, chroma=129),
            frame(5, 2, chroma=129, layout=replace(LAYOUT, matrix=6)),
        ]
    ):
        repeats(other)
        assert computed[-1] == pts
    assert repeats.count == 0


def test_one_pixel_in_the_last_corner_counts(repeats, computed):
    one, other = frame(5, 0), frame(5, 1)
    other.planes[-1][-1, -1] += 1
    repeats(one)
    repeats(other)
    assert computed == [0, 1]


def test_nothing_is_looked_for_where_it_is_off(computed):
    made = Repeats(lambda each: computed.append(each.pts) or each, look=False)
    for pts in range(3):
        made(frame(5, pts))
    assert computed == [0, 1, 2]
    assert made.count == 0
