"""What follows the network, where memory runs out there."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from srpipe.device import where_room_is
from srpipe.infer import Upscaler
from srpipe.io.frames import Frame
from srpipe.jobs import enlarge
from srpipe.jobs.enlarge import Enlarger
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


def enlarged(frame):
    """The pixels that come out, and how many are clipped."""
    network = nn.Upsample(scale_factor=2, mode="bicubic")
    upscaler = Upscaler(network, scale=2, halo=2, exact=True, device="cpu", precision="fp32")
    stop = threading.Event()
    enlarge = Enlarger(upscaler, RGBA, (15, 20), cancelled=stop, project=True, count=True)
    return enlarge(frame).planes[0], enlarge.clipped
