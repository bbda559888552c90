import pytest
import torch
from counts import macs_per_pixel, parameters

from srpipe.models.attsrgan import AttSRGAN, Block


@pytest.mark.parametrize(
    ("blocks", "wanted", "millions"), [(5, 922_404, 1.591), (16, 2_151_654, 2.808)]
)
def test_the_published_networks_have_their_parameters_and_cost(blocks, wanted, millions):
    with torch.device("meta"):
        assert parameters(AttSRGAN(blocks=blocks)) == wanted
        assert parameters(Block(64, 32, 16)) == 111_750
    found = macs_per_pixel(lambda: AttSRGAN(blocks=blocks))
    assert found == pytest.approx(millions, abs=0.001)


def test_the_papers_output_lies_between_black_and_white():
    y = AttSRGAN(width=32, blocks=1)(10 * torch.randn(1, 3, 6, 6))
    assert y.min() >= 0
    assert y.max() <= 1
