from fractions import Fraction

import pytest

from srpipe import zoo
from srpipe.errors import ConfigError
from srpipe.jobs.size import aim, label, network
from srpipe.models import MODELS
from srpipe.settings import RunSettings, size_of


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Settings for a family with networks that enlarge 2 and 4 times."""
    import toy

    monkeypatch.setitem(MODELS, "toy", toy.SPEC)
    for scale in (2, 4):
        state = {"gain": toy.torch.ones(1)}
        zoo.Card(
            family="toy", preset="lite", scale=scale, stage="fidelity", options={}, parameters=1,
            halo=0, files=zoo.store(state, tmp_path, f"toy-lite-x{scale}-fidelity"),
            folder=tmp_path,
        ).write()  # fmt: skip
    return lambda **values: RunSettings(**{"model": "toy", "weights": tmp_path} | values)


@pytest.mark.parametrize(
    ("times", "scale"), [(None, 2), (1, 2), (1.5, 2), (2, 2), (2.01, 4), (3, 4), (4, 4), (6.5, 4)]
)
def test_the_network_is_the_smallest_that_reaches_else_the_largest(asked, times, scale):
    assert network(asked(scale=times)).scale == scale
    found, _, notices = aim(asked(scale=times), (10, 10), turned=False, even=False)
    assert found.scale == scale
    assert len(notices) == (times == 6.5)


def test_a_name_with_a_scale_in_it_holds_to_it(asked):
    assert network(asked(model="toy-lite-x4", scale=1.5)).scale == 4
    assert network(asked(model="toy-lite-x2", scale=3)).scale == 2


@pytest.mark.parametrize(
    ("values", "before", "turned", "even", "after"),
    [
        ({"scale": 2}, (47, 63), False, True, (94, 126)),
        ({"scale": 3}, (47, 63), False, True, (141, 189)),
        ({"scale": 2.5}, (480, 854), False, True, (1200, 2136)),
        ({"scale": 2.5}, (480, 854), False, False, (1200, 2135)),
        ({"scale": 1.5}, (5, 7), False, False, (8, 10)),
        ({"size": "3840x2160"}, (1080, 1920), False, True, (2160, 3840)),
        ({"size": "2160x3840"}, (1080, 1920), True, True, (2160, 3840)),
        ({"size": "15x21"}, (9, 7), False, True, (21, 15)),
    ],
)
def test_the_size_is_what_was_asked_for(asked, values, before, turned, even, after):
    assert aim(asked(**values), before, turned=turned, even=even)[1] == after


def test_the_network_for_a_size_reaches_its_longer_way(asked):
    found, after, _ = aim(asked(size="20x31"), (10, 10), turned=False, even=True)
    assert (found.scale, after) == (4, (31, 20))


def test_a_size_below_the_source_is_refused(asked):
    with pytest.raises(ConfigError, match="9x9 is smaller than the source, which has 20x10"):
        aim(asked(size="9x9"), (10, 20), turned=False, even=True)


def test_the_label_says_what_was_asked_for(asked):
    for values, text in [
        ({}, "toy_x2"),
        ({"scale": 4}, "toy_x4"),
        ({"scale": 2.5}, "toy_x2.5"),
        ({"size": "40x30"}, "toy_40x30"),
        ({"model": "toy-lite-x4"}, "toy-lite_x4"),
    ]:
        settings = asked(**values)
        assert label(settings, network(settings)) == text


def test_a_size_is_read_as_width_and_height():
    assert size_of("3840x2160") == (2160, 3840)
    for text in ("3840", "3840X2160", "0x10", "-3x4", "3.5x2", "1x2x3", ""):
        with pytest.raises(ConfigError, match="is no size"):
            size_of(text)


def test_a_picture_of_any_size_keeps_its_size_on_paper(toy, tmp_path):
    import numpy as np
    from PIL import Image

    from srpipe.jobs import upscale

    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    flat = Image.fromarray(np.full((20, 30, 3), 90, np.uint8))
    flat.save(tmp_path / "a.png", dpi=(100, 100), exif=exif)
    settings = RunSettings(model="toy", weights=toy, perception=0, size="50x60")
    result = upscale(tmp_path / "a.png", settings=settings)
    assert result.target.name == "a_toy_50x60.png"
    with Image.open(result.target) as image:
        assert image.size == (60, 50)
        assert image.getexif()[0x0112] == 6
        across, down = image.info["dpi"]
        assert (round(across), round(down)) == (200, 250)
        assert set(np.array(image).ravel()) == {90}


def test_a_size_that_keeps_the_shape_keeps_square_pixels(tmp_path):
    import video_files as clips

    from srpipe.io.video import VideoSink, VideoSource

    source = VideoSource(clips.make(tmp_path / "a.mkv", size=(48, 86), times=[0]))
    for (height, width), shape, said in [
        ((120, 216), None, False),  # 2.5 times, but for a column
        ((96, 172), None, False),
        ((120, 240), Fraction(43, 48), True),
    ]:
        sink = VideoSink(tmp_path / "p", source, height=height, width=width, suffix=".mkv")
        assert any("another shape" in text for text in sink.notices) == said
        sink.abort()
        assert sink.target.sample_aspect_ratio == (shape or 0)
