import threading

import pytest
import torch
from torch import nn

from srpipe.infer import Upscaler
from srpipe.jobs.shots import Shots
from srpipe.models.pooling import ChannelGate
from srpipe.resample import resize


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gate = ChannelGate(3, 1)

    def forward(self, x):
        return self.gate(x)


@pytest.fixture
def shots():
    made = Upscaler(Gated(), scale=1, halo=1, exact=True, device="cpu", precision="fp32", tile=12)
    return Shots(made, threading.Event())


def frame(brightness):
    return torch.full((1, 3, 16, 24), brightness)


def seen(statistics):
    """The brightness that the statistics were taken from."""
    return round(float(statistics["gate.pool"].mean()), 3)


def test_the_frames_of_a_shot_share_the_statistics_of_its_first(shots):
    assert [seen(shots(frame(b))) for b in (0.5, 0.52, 0.55)] == [0.5, 0.5, 0.5]


def test_a_cut_begins_a_shot_and_a_slow_change_does_not(shots):
    slow = [0.5 + 0.09 * i for i in range(4)]
    assert [seen(shots(frame(b))) for b in (*slow, 0.1, 0.12)] == [0.5] * 4 + [0.1] * 2


def test_statistics_are_taken_anew_where_a_cell_begins(shots):
    shots(frame(0.5))
    shots.begin()
    assert seen(shots(frame(0.55))) == 0.55


def test_a_large_frame_is_not_made_small_by_one_bicubic_step(monkeypatch, shots):
    """CUDA refuses it from 1280 x 720 px on; a CPU takes as long as some networks for it."""
    sizes = []

    def seen(x, size):
        sizes.extend(x.shape[-2:])
        return resize(x, size)

    monkeypatch.setattr("srpipe.jobs.shots.resize", seen)
    shots(torch.full((1, 3, 180, 320), 0.5))
    assert max(sizes) < 2 * 16


def test_a_frame_that_fits_whole_needs_none():
    made = Upscaler(Gated(), scale=1, halo=1, exact=True, device="cpu", precision="fp32")
    assert Shots(made, threading.Event())(frame(0.5)) is None
