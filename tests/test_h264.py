import pytest
import torch

from training.degrade import bicubic
from training.h264 import filmed

QUIET = {"factors": (23, 23), "noise": (0.0, 0.0)}


def photograph(height=96, width=128, seed=0):
    """Something of all frequencies, uint8 (H, W, 3)."""
    chance = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for side in (3, 12, 48):  # colours have no details: codecs keep none
        coarse = torch.rand(1, 3 if side == 3 else 1, side, side, generator=chance) / 3
        image = image + torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (image[0].permute(1, 2, 0) * 255).byte()


def distance(a, b):
    return float((a.float() - b.float()).square().mean())


@pytest.mark.parametrize("seed", range(6))
def test_a_frame_shows_what_the_picture_shows_in_the_same_place(seed):
    image = photograph()
    chance = torch.Generator().manual_seed(seed)  # of other motion, and another frame of the clip
    frame = filmed(image, 4, "bicubic", factors=(12, 12), noise=(0, 0), chance=chance).float()
    low = bicubic(image, 4).float()
    assert frame.shape == low.shape
    best = distance(frame[2:-2, 2:-2], low[2:-2, 2:-2])
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        moved = low.roll((down, right), (0, 1))
        assert distance(frame[2:-2, 2:-2], moved[2:-2, 2:-2]) > 3 * best


def test_a_higher_factor_leaves_less():
    image = photograph()
    low = bicubic(image, 4)
    found = [
        distance(
            filmed(
                image,
                4,
                "bicubic",
                factors=(factor, factor),
                noise=(0, 0),
                chance=torch.Generator().manual_seed(1),
            ),
            low,
        )
        for factor in (10, 25, 40)
    ]
    assert found == sorted(found)
    assert found[2] > 4 * found[0]


@pytest.mark.parametrize(("height", "width"), [(60, 52), (36, 40), (68, 76)])
def test_sides_that_no_codec_takes_are_kept(height, width):
    frame = filmed(photograph(height, width), 4, "bicubic", chance=torch.Generator(), **QUIET)
    assert frame.shape == (height // 4, width // 4, 3)
    assert frame.dtype == torch.uint8


def test_chance_decides_alone():
    image = photograph()
    a, b, c = (
        filmed(image, 4, "bicubic", chance=torch.Generator().manual_seed(seed), **QUIET)
        for seed in (3, 3, 4)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_noise_is_there_before_the_codec():
    flat = torch.full((256, 256, 3), 128, dtype=torch.uint8)
    loud, lost = (
        filmed(flat, 4, "bicubic", factors=(f, f), noise=(6, 6), chance=torch.Generator()).float()
        for f in (5, 45)
    )
    assert 4 < loud.mean(-1).std() * 3**0.5 < 8
    assert lost.std() < 1
