import io

import numpy as np
import pytest
import torch
from PIL import Image

from srpipe.codecs import h264, jpeg
from srpipe.errors import PixelError


def film(count, height=48, width=64, *, step=3):
    """Frames of a soft pattern that moves to the right, (1, 3, H, W) in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = (torch.sin((x - step * i) / 5) + torch.cos(y / 4) for i in range(count))
    return [(0.5 + wave / 5).expand(1, 3, -1, -1) for wave in waves]


def apart(a, b):
    return float((a - b).abs().mean()) * 255


def test_jpeg_is_what_libjpeg_makes():
    frame = torch.rand(1, 3, 21, 34)
    (found,) = jpeg([frame], 60)
    file = io.BytesIO()
    pixels = (frame[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=60)
    assert np.array_equal((found[0].permute(1, 2, 0) * 255).round().numpy(), Image.open(file))


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_every_frame_comes_back_once_and_in_its_place(count):
    frames = film(count)
    found = list(h264(frames, 15))
    assert len(found) == count
    for i, frame in enumerate(found):
        distances = [apart(frame, each) for each in frames]
        assert distances[i] < 4
        assert all(each > 3 * distances[i] for j, each in enumerate(distances) if j != i)


def test_a_higher_factor_leaves_less():
    frames = film(6)
    losses = [
        sum(apart(*pair) for pair in zip(h264(frames, factor), frames, strict=True))
        for factor in (5, 25, 45)
    ]
    assert losses[0] * 2 < losses[1] < losses[2] / 2


@pytest.mark.parametrize("side", [(47, 63), (17, 16), (2, 2)])
def test_odd_sides_are_kept(side):
    found = list(h264(film(3, *side), 20))
    assert [frame.shape for frame in found] == [(1, 3, *side)] * 3


def test_the_same_frames_are_the_same_again():
    first, again = (torch.cat(list(h264(film(8), 23))) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal((first * 255).round() / 255, first)


def test_nothing_is_encoded_into_nothing():
    assert list(h264([], 23)) == []


@pytest.mark.parametrize("width", [63, 66])
def test_frames_of_two_sizes_are_no_video(width):
    frames = [*film(2, 48, 64), *film(1, 48, width)]
    with pytest.raises(PixelError, match=f"frame 3 is {width} x 48 px"):
        list(h264(frames, 20))
