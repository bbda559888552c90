import math
from pathlib import Path

import pytest
import torch

from srpipe.errors import PixelError
from srpipe.metrics import luma, mean, psnr, ssim

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
    from srpipe.resample import enlarge
    from training.evaluate import measure

    found = measure(lambda x: enlarge(x, scale), data, scale)
    assert found["psnr_y"] == pytest.approx(wanted, abs=0.01)
