import pytest
import torch

from training.degrade import REDUCTIONS, blurred, noisy, recompressed


def numbered(height, width):
    count = torch.arange(height * width * 3)
    return (count % 251).to(torch.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_reduction_gives_eight_bits_and_keeps_what_is_flat(name, scale):
    low = REDUCTIONS[name](numbered(24, 36), scale)
    assert (low.dtype, low.shape) == (torch.uint8, (24 // scale, 36 // scale, 3))
    assert (REDUCTIONS[name](torch.full((12, 12, 3), 77, dtype=torch.uint8), scale) == 77).all()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_does_not_shift(name):
    ramp = (torch.arange(48) * 4).to(torch.uint8).view(1, -1, 1).expand(48, 48, 3)
    low = REDUCTIONS[name](ramp, 4)[6, :, 0].float()
    middle = torch.arange(12) * 16 + 6  # of four neighbouring values
    assert (low - middle)[3:-3].abs().max() <= 0.5


def test_the_blur_is_a_gaussian_of_seven_pixels():
    """Of an edge it leaves the share of the window beyond it."""
    edge = torch.zeros(30, 30, 3, dtype=torch.uint8)
    edge[:, 15:] = 255
    line = torch.exp(-torch.arange(-3.0, 4).square() / (2 * 1.6**2))
    line = line / line.sum()
    wanted = [line[-n:].sum() if n else torch.tensor(0.0) for n in range(8)]
    seen = blurred(edge, 1)[15, 11:19, 0] / 255
    assert torch.allclose(seen, torch.stack(wanted), atol=0.003)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_what_is_blurred_is_not_low_passed_again(scale):
    """Of one bright pixel, every output pixel has the Gaussian at its own distance from it."""
    image = torch.zeros(24 * scale, 24 * scale, 3, dtype=torch.uint8)
    at = 12 * scale + scale // 2
    image[at, :] = 255  # a line, so that rounding to eight bits is small beside it
    offsets = torch.arange(24) * scale + (scale - 1) / 2 - at
    taps = torch.arange(-3.0, 4) if scale % 2 else torch.arange(-3.5, 4)
    total = torch.exp(-taps.square() / (2 * 1.6**2)).sum()
    wanted = torch.exp(-offsets.square() / (2 * 1.6**2)) / total * (offsets.abs() <= taps.max())
    assert torch.allclose(blurred(image, scale)[:, 7, 1] / 255, wanted, atol=0.003)


def test_noise_has_the_deviation_it_was_asked_for_and_is_drawn_for_each_image():
    low = torch.full((8, 3, 32, 32), 0.5)
    chance = torch.Generator().manual_seed(1)
    fixed = (noisy(low, (10, 10), chance) - low).std((1, 2, 3)) * 255
    assert torch.allclose(fixed, torch.full((8,), 10.0), rtol=0.1)
    drawn = (noisy(low, (0, 20), chance) - low).std((1, 2, 3)) * 255
    assert drawn.max() - drawn.min() > 5


def test_the_same_chance_gives_the_same_noise_and_compression():
    low = torch.rand(2, 3, 20, 20)
    for act in (
        lambda c: noisy(low, (1, 5), c),
        lambda c: recompressed(low, (30, 80), c),
    ):
        a, b = (act(torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(a, b)
        assert torch.equal((a * 255).round() / 255, a)


def test_compression_keeps_size_and_place_of_any_patch():
    low = torch.rand(1, 3, 5, 5).repeat_interleave(5, 2).repeat_interleave(5, 3)[..., :23]
    for seed in range(5):
        found = recompressed(low, (95, 95), torch.Generator().manual_seed(seed))
        assert found.shape == low.shape
        assert (found.mean(1) - low.mean(1)).abs().mean() < 0.03
