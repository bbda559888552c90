from fractions import Fraction

import av
import numpy as np
import pytest
import video_files as clips

from srpipe.errors import TruncatedError
from srpipe.io.video import VideoSource
from srpipe.io.video_deinterlace import REACH, deinterlaced


def decoded(path):
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def lumas(pictures):
    return [picture.to_ndarray()[: picture.height] for picture in pictures]


@pytest.fixture(scope="module")
def woven(tmp_path_factory):
    return clips.interlaced(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return clips.make(tmp_path_factory.mktemp("clip") / "a.mp4", times=clips.UNEVEN)


def test_there_are_as_many_pictures_at_the_same_times(woven):
    before, after = decoded(woven), list(deinterlaced(iter(decoded(woven))))
    facts = [
        [(p.pts, p.dts, p.duration, p.time_base, p.colorspace, p.format.name) for p in pictures]
        for pictures in (before, after)
    ]
    assert facts[0] == facts[1]
    assert all(p.interlaced_frame for p in before)
    assert not any(p.interlaced_frame for p in after)


def test_the_first_field_keeps_its_lines_and_the_other_moves_to_its_moment(woven):
    before, after = decoded(woven), list(deinterlaced(iter(decoded(woven))))
    for one, other in list(zip(lumas(before), lumas(after), strict=True))[1:-1]:
        assert np.array_equal(one[1::2], other[1::2])
        upper, lower = other[::2].astype(int), other[1::2].astype(int)
        assert np.abs(upper - lower).mean() < np.abs(one[::2].astype(int) - one[1::2]).mean() / 4


def test_whole_pictures_pass_untouched(plain):
    before = decoded(plain)
    after = list(deinterlaced(iter(before)))
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_only_flagged_pictures_change_where_both_kinds_meet(plain, woven):
    order = [*decoded(plain)[:3], *decoded(woven)[:3], *decoded(plain)[3:6]]
    after = list(deinterlaced(iter(order)))
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(lumas(order), lumas(after), strict=True)
    ]
    assert changed == [False] * 3 + [True] * 3 + [False] * 3


@pytest.mark.parametrize("start", [1, 3, 6])
def test_a_picture_depends_on_no_more_than_its_reach(woven, start):
    whole = lumas(deinterlaced(iter(decoded(woven))))
    part = lumas(deinterlaced(iter(decoded(woven)[start - REACH : start + 1 + REACH])))
    assert np.array_equal(part[REACH], whole[start])


def test_another_size_begins_anew_and_loses_nothing(woven, tmp_path):
    other = decoded(clips.interlaced(tmp_path, size=(32, 64)))
    after = list(deinterlaced(iter([*decoded(woven), *other])))
    assert [p.height for p in after] == [48] * 8 + [32] * 8


def test_what_was_decoded_before_damage_comes_before_the_error(woven):
    def broken():
        yield from decoded(woven)[:4]
        raise TruncatedError("it ends", frames=4)

    seen = []
    with pytest.raises(TruncatedError):
        seen.extend(deinterlaced(broken()))
    assert len(seen) == 4


def test_a_source_says_which_of_both_it_does(woven, plain):
    for deinterlace, words in ((True, "made whole"), (False, "left so")):
        source = VideoSource(woven, deinterlace=deinterlace)
        assert sum(words in text for text in source.notices) == 1
        combs = [np.abs(np.diff(f.planes[0].astype(int), axis=0)).mean() for f in source]
        assert (np.mean(combs) < 10) == deinterlace
    assert not any("interlaced" in text for text in VideoSource(plain).notices)


def test_a_whole_picture_before_counts_wherever_the_work_begins(plain, woven):
    order = [*decoded(woven)[:2], decoded(plain)[0], *decoded(woven)[4:7]]
    part = [decoded(plain)[0], *decoded(woven)[4:7]]
    whole = lumas(deinterlaced(iter(order)))
    assert np.array_equal(whole[3], lumas(deinterlaced(iter(part)))[1])


def test_packed_pictures_keep_their_samples():
    """Those of BT.709 came out with the samples of BT.601."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=48, height=32, format="yuyv422", time_base=Fraction(1, 25))
    woven = graph.add("setfield", "tff")
    graph.link_nodes(source, woven, graph.add("buffersink")).configure()
    flat = np.tile(np.array([91, 105, 91, 191], np.uint8), (32, 24)).reshape(32, 48, 2)
    pictures = []
    for time in range(4):
        picture = av.VideoFrame.from_ndarray(flat, format="yuyv422")
        picture.pts, picture.time_base, picture.colorspace = time, Fraction(1, 25), 1
        graph.push(picture)
        pictures.append(graph.vpull())
    assert all(picture.interlaced_frame for picture in pictures)
    for made in deinterlaced(iter(pictures)):
        assert not made.interlaced_frame
        for plane, wanted in zip(made.planes, (91, 105, 191), strict=True):
            lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            assert (lines[:, : plane.width] == wanted).all()
