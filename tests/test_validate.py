import pytest
import torch
from torch import nn

from srpipe.gradients import gradient_map
from srpipe.metrics import luma, psnr
from srpipe.resample import enlarge
from training.validate import EDGES_GAIN, validate


class Bicubic(nn.Module):
    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x, *, return_gradient=False):
        y = enlarge(x, 2) + self.nothing
        return (y, gradient_map(y)) if return_gradient else y


@pytest.fixture
def held():
    highs = [torch.rand(1, 3, 24, 32), torch.rand(1, 3, 40, 28)]
    return [(torch.nn.functional.avg_pool2d(high, 2), high) for high in highs]


def test_figures_are_of_luma_in_eight_bits_without_the_border(held):
    found = validate(Bicubic(), held, 2, edges=False)
    wanted = []
    for low, high in held:
        result = (enlarge(low, 2).clamp(0, 1) * 255).round() / 255
        inner = (..., slice(2, -2), slice(2, -2))
        wanted.append(psnr(luma(result)[inner], luma(high)[inner]))
    assert found.psnr == pytest.approx(float(torch.stack(wanted).mean()), abs=1e-4)
    assert 0 < found.ssim < 1


@pytest.mark.parametrize(("edges", "panels"), [(False, 5), (True, 6)])
def test_the_picture_has_a_row_for_each_image_and_a_column_for_each_kind(held, edges, panels):
    picture = validate(Bicubic(), held, 2, edges=edges).picture
    assert picture.shape == (3, 2 * 24, panels * 24)
    high = held[0][1][0]
    assert torch.allclose(picture[:, :24, 48:72], high[..., 4:28], atol=1 / 255)
    truth = (gradient_map(held[0][1]) * EDGES_GAIN).clamp(0, 1)[0]
    assert torch.allclose(picture[:, :24, -24:], truth[..., 4:28], atol=1 / 255)
