"""What stands around the network: opacity, and where memory runs out beside it."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from srpipe.device import where_room_is
from srpipe.infer import Upscaler
from srpipe.io.frames import Frame
from srpipe.jobs import enlarge
from srpipe.jobs.enlarge import Enlarger, together
from srpipe.pixels import Layout

RGBA = Layout(family="rgb", alpha=True)


@pytest.fixture
def frame():
    """Noise, in part clear."""
    noise = np.random.default_rng(3).integers(0, 255, (9, 12, 4), np.uint8, endpoint=True)
    return Frame(planes=(noise,), layout=RGBA)


@pytest.fixture
def cuda(monkeypatch):
    """Let the processor pass for a graphics card."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def room(device, make):
        return where_room_is(torch.device("cuda"), lambda _: make(device))

    monkeypatch.setattr(enlarge, "where_room_is", room)


@pytest.mark.parametrize("stage", ["rgb_of", "resize", "projected", "from_rgb"])
def test_what_a_card_has_no_room_for_beside_the_network_is_done_elsewhere(
    monkeypatch, frame, cuda, stage
):
    """Only the network was tried again; what followed it ended in a traceback."""
    wanted, clipped = enlarged(frame)
    assert clipped
    calls, way = [], getattr(enlarge, stage)

    def full(*args):
        calls.append(stage)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return way(*args)

    monkeypatch.setattr(enlarge, stage, full)
    found, clipped_then = enlarged(frame)
    assert len(calls) > 1
    assert np.array_equal(found, wanted)
    assert clipped_then == clipped


def shape(hidden, layout=RGBA):
    """A disc with soft edges, amid a colour that nobody sees; some pixels are nearly clear."""
    y, x = np.mgrid[:23, :30]
    opacity = np.clip((9 - np.hypot(y - 11, x - 15)) * 90, 0, 255)
    opacity[3:5, 3:5] = 1
    noise = np.random.default_rng(5).integers(90, 160, (23, 30, 3))
    colours = np.where(opacity[..., None] >= 1, noise, hidden)
    pixels = np.dstack([colours, opacity]).astype(layout.dtype)
    if layout.family == "gray":
        pixels = pixels[..., 2:]
    if layout.bits > 8:
        pixels = pixels * np.uint16(257)
    return Frame(planes=(pixels,), layout=layout)


def far_seeing(**settings):
    """A network that sees 7 pixels far."""
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 3, 15, padding=7), nn.Upsample(scale_factor=2, mode="bicubic")
    common = {"scale": 2, "halo": 10, "exact": True, "device": "cpu", "precision": "fp32"}
    return Upscaler(nn.Sequential(*layers), **common, **settings)


WAYS = {
    "RGB": (RGBA, {}),
    "grey of 16 bits": (replace(RGBA, family="gray", bits=16), {}),
    "in tiles": (RGBA, {"tile": 24}),
}


@pytest.mark.parametrize(("layout", "way"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("size", [(46, 60), (40, 57)])
@pytest.mark.parametrize("project", [False, True])
def test_invisible_pixels_change_no_visible_one(layout, way, size, project):
    """Black under transparent pixels came out as a dark ring around what is seen."""
    made = []
    for hidden in (0, 255):
        frame = shape(hidden, layout)
        stop = threading.Event()
        enlarge = Enlarger(far_seeing(**way), layout, size, cancelled=stop, project=project)
        (pixels,) = enlarge(frame).planes
        seen = pixels[..., -1:] > 0
        made.append(pixels * seen)
        if size == (46, 60):
            clear = ~seen[..., 0] & (frame.planes[0][..., -1] == 0).repeat(2, 0).repeat(2, 1)
            assert clear.mean() > 0.4
            assert (pixels[clear][:, :-1] == frame.planes[0][0, 0, 0]).all()
    assert np.array_equal(*made)


def test_invisible_pixels_of_frames_that_go_together_change_no_visible_one():
    upscaler = far_seeing()
    black, white = together([shape(0), shape(255)], upscaler, threading.Event())
    assert torch.equal(black, white)


def test_a_frame_that_is_all_clear_keeps_its_hidden_colours():
    pixels = np.full((9, 12, 4), (200, 10, 0, 0), np.uint8)
    frame = Frame(planes=(pixels,), layout=RGBA)
    enlarge = Enlarger(far_seeing(), RGBA, (18, 24), cancelled=threading.Event())
    assert (enlarge(frame).planes[0] == pixels[0, 0]).all()


@pytest.mark.parametrize("straight", [False, True])
def test_colours_that_are_all_visible_go_into_the_network_as_they_are(straight):
    """As those that are multiplied by their opacity are: black is where there is nothing."""
    frame = shape(0, replace(RGBA, straight=straight))
    if straight:
        frame.planes[0][..., 3].clip(1, out=frame.planes[0][..., 3])
    bare = Frame(planes=(frame.planes[0][..., :3],), layout=Layout(family="rgb"))
    made = [
        Enlarger(far_seeing(), each.layout, (46, 60), cancelled=threading.Event())(each)
        for each in (frame, bare)
    ]
    assert np.array_equal(made[0].planes[0][..., :3], made[1].planes[0])


def test_in_chroma_that_is_shared_no_hidden_colour_comes_back():
    layout = Layout(family="yuv", alpha=True, sub_y=2, sub_x=2, full_range=False, matrix=1)
    made = []
    for hidden in (16, 235):
        opacity = np.zeros((24, 32), np.uint8)
        opacity[8:16, 8:20] = 255
        luma = np.where(opacity, 120, hidden).astype(np.uint8)
        chroma = np.full((2, 12, 16), 90, np.uint8)
        frame = Frame(planes=(luma, *chroma, opacity), layout=layout)
        enlarge = Enlarger(far_seeing(), layout, (48, 64), cancelled=threading.Event())
        made.append(enlarge(frame).planes)
    assert all(map(np.array_equal, *made))


def enlarged(frame):
    """The pixels that come out, and how many are clipped."""
    network = nn.Upsample(scale_factor=2, mode="bicubic")
    upscaler = Upscaler(network, scale=2, halo=2, exact=True, device="cpu", precision="fp32")
    stop = threading.Event()
    enlarge = Enlarger(upscaler, RGBA, (15, 20), cancelled=stop, project=True, count=True)
    return enlarge(frame).planes[0], enlarge.clipped
