import math
from pathlib import Path

import pytest
import torch

from srpipe.errors import PixelError
from srpipe.gradients import gradient_map
from srpipe.metrics import color_shift, flicker, gradient_error, luma, mean, psnr, ssim
from srpipe.resample import enlarge

SHARED = Path(__file__).parents[2] / "shared"


def test_luma_of_the_corners_of_the_cube_is_matlabs():
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = luma(corners.view(5, 3, 1, 1)).flatten() * 255
    assert torch.allclose(found, torch.tensor([16.0, 235, 81.481, 144.553, 40.966]), atol=1e-3)


def test_one_level_in_every_pixel_is_forty_eight_decibels():
    truth = torch.zeros(1, 3, 4, 4)
    assert psnr(truth + 1 / 255, truth).item() == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_psnr_is_infinite_when_equal_and_per_image():
    a = torch.rand(2, 3, 4, 4)
    b = a.clone()
    b[1] += 0.1
    found = psnr(b, a)
    assert found[0] == math.inf
    assert found[1].item() == pytest.approx(20, abs=1e-3)


def test_ssim_of_two_flat_images_is_the_luminance_term_alone():
    a, b = torch.full((1, 1, 11, 11), 0.2), torch.full((1, 1, 11, 11), 0.6)
    wanted = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(wanted, abs=1e-6)


def test_ssim_is_one_when_equal_symmetric_and_less_for_noise():
    a, b = torch.rand(1, 3, 16, 17), torch.rand(1, 3, 16, 17)
    assert ssim(a, a).item() == pytest.approx(1)
    assert ssim(a, b).item() == pytest.approx(ssim(b, a).item())
    assert ssim(a, b).item() < 0.5


def test_shapes_that_differ_or_hold_no_window_are_refused():
    with pytest.raises(PixelError, match="cannot compare"):
        psnr(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
    with pytest.raises(PixelError, match="11 px"):
        ssim(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 20))


def test_color_shift_is_signed_per_channel_and_in_levels():
    truth = torch.rand(2, 3, 5, 7) * 0.5 + 0.2
    image = truth + torch.tensor([3.0, 0.0, -2.0]).view(3, 1, 1) / 255
    found = color_shift(image, truth)
    assert torch.allclose(found, torch.tensor([[3.0, 0, -2]] * 2).double(), atol=1e-4)


def test_noise_without_a_mean_shifts_no_color():
    truth = torch.full((1, 3, 8, 8), 0.5)
    checks = (-1.0) ** torch.arange(8)
    assert color_shift(truth + checks * 0.1, truth).abs().max() < 1e-4


def test_the_gradient_error_of_a_ramp_and_a_flat_image_is_the_ramps_slope():
    ramp = (torch.arange(9) / 100).expand(1, 3, 5, 9)
    flat = torch.zeros(1, 3, 5, 9)
    inner = math.hypot(0.02, 1e-3) - 1e-3  # two pixels apart; a border pixel repeats itself
    edge = math.hypot(0.01, 1e-3) - 1e-3
    assert gradient_error(ramp, flat).item() == pytest.approx((7 * inner + 2 * edge) / 9, rel=1e-4)


def test_the_gradient_error_is_zero_when_equal_per_image_and_what_the_maps_differ_by():
    a, b = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 6)
    assert gradient_error(a, a).tolist() == [0, 0]
    wanted = (gradient_map(a) - gradient_map(b))[1].abs().mean().item()
    assert gradient_error(a, b)[1].item() == pytest.approx(wanted)


def resting(frames=6, side=12):
    """A still input and its bicubic enlargement, again and again."""
    torch.manual_seed(0)
    low = torch.rand(1, 3, side, side)
    return [(low, enlarge(low, 2).clamp(0, 1))] * frames


def test_bicubic_does_not_flicker_even_where_the_input_does():
    torch.manual_seed(0)
    scene = torch.rand(1, 3, 12, 12)
    lows = [scene, scene, (scene + 0.004 * torch.randn_like(scene)).clamp(0, 1), 1 - scene, scene]
    found = flicker((low, enlarge(low, 2).clamp(0, 1)) for low in lows)
    assert (found.total, found.coarse, found.pairs) == (0, 0, 4)
    assert found.still == 0.5


def test_detail_that_rests_does_not_flicker():
    detail = 0.3 * torch.rand(1, 3, 24, 24)
    found = flicker((low, high * 0.7 + detail) for low, high in resting())
    assert (found.total, found.coarse, found.still) == (0, 0, 1)


def test_new_noise_in_every_frame_flickers_by_its_deviation_times_the_root_of_two():
    torch.manual_seed(1)
    frames = resting(frames=12, side=32)
    found = []
    for levels in (1, 2, 4):
        noisy = [(x, y + levels / 255 * torch.randn_like(y)) for x, y in frames]
        found.append(flicker(noisy))
    assert [f.total for f in found] == pytest.approx([2**0.5, 2 * 2**0.5, 4 * 2**0.5], rel=0.02)
    assert all(f.coarse < 0.6 * f.total for f in found)  # most of it is finer than the input


def test_pumping_brightness_is_coarse():
    pumps = [0, 2, 0, 2, 0, 2]
    found = flicker((x, y + p / 255) for (x, y), p in zip(resting(), pumps, strict=True))
    assert (found.total, found.coarse) == pytest.approx((2, 2), abs=1e-3)


def test_what_moves_is_not_counted():
    """Detail goes with a moving object, here the left half, and may change there."""
    torch.manual_seed(0)
    lows = [torch.rand(1, 3, 16, 64) for _ in range(5)]
    for low in lows[1:]:
        low[..., 16:] = lows[0][..., 16:]
    frames = [(x, enlarge(x, 2).clamp(0, 1)) for x in lows]
    for _x, y in frames:
        y[..., :26] += torch.rand_like(y[..., :26])
    found = flicker(frames)
    assert found.total == 0
    assert found.still == pytest.approx(45 / 64)  # the window of 7 px reaches 3 px to the right


@pytest.mark.parametrize(("levels", "still"), [(1.9, 1), (2.1, 0)])
def test_still_is_two_levels_or_less_in_the_corners_too(levels, still):
    low = torch.full((1, 3, 8, 8), 0.5)
    frames = [(x, enlarge(x, 2)) for x in (low, low + levels / 255)]
    assert flicker(frames).still == still


def test_flicker_of_cuts_alone_is_not_a_number():
    found = flicker((x, enlarge(x, 2)) for x in (torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)))
    assert math.isnan(found.total)
    assert math.isnan(flicker([]).still)
    assert found.still == 0


def test_flicker_takes_outputs_of_any_size_but_one_size():
    frames = [(x, torch.rand(1, 3, 31, 29)) for x, _ in resting()]
    assert flicker(frames).total > 10
    with pytest.raises(PixelError, match="one size"):
        flicker([*frames, *resting()])


def test_flicker_holds_two_frames_at_a_time():
    import weakref

    alive = []

    def frames():
        for _ in range(8):
            assert sum(ref() is not None for ref in alive) <= 2  # this one and the one before
            low = torch.rand(1, 3, 8, 8)
            alive.append(weakref.ref(low))
            pair = low, enlarge(low, 2)
            del low
            yield pair
            del pair

    assert flicker(frames()).pairs == 7


def test_the_mean_of_nothing_is_not_a_number():
    assert math.isnan(mean([]))
    assert mean([1.0, 2.0]) == 1.5


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "scale", "wanted"),
    [("Set5", 2, 33.68), ("Set5", 3, 30.41), ("Set5", 4, 28.43), ("Set14", 4, 26.09)],
)
def test_bicubic_scores_what_the_literature_says(folder, scale, wanted):
    data = SHARED / "data" / "eval" / folder
    if not data.is_dir():
        pytest.skip(f"{folder} is not beside the project")
    from functools import partial

    from srpipe.datasets import Pictures
    from srpipe.evaluation import reduced, tally
    from srpipe.figures import METRICS

    samples = reduced(Pictures.at(data), scale, {"bicubic": partial(enlarge, scale=scale)})
    (row,) = tally(folder, samples, {"psnr_y": METRICS["psnr_y"]})
    assert row.values["psnr_y"] == pytest.approx(wanted, abs=0.01)
