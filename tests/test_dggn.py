import pytest
import torch
from counts import macs_per_pixel, parameters

from srpipe.models.dggn import DGGN, MSRU


def test_the_published_network_has_its_parameters_and_cost():
    with torch.device("meta"):
        assert parameters(DGGN()) == 14_642_730
        assert parameters(MSRU(64, 16)) == 329_092
    assert macs_per_pixel(DGGN, return_gradient=True) == pytest.approx(23.177, abs=0.001)


def test_the_small_network_of_the_specification_has_its_parameters_and_cost():
    def small():
        return DGGN(width=40, units=16, grad_units=1, hr_units=0)

    with torch.device("meta"):
        assert parameters(small()) == pytest.approx(3.03e6, abs=5e3)
    assert macs_per_pixel(small, return_gradient=True) == pytest.approx(4.45, abs=0.01)


def test_a_unit_whose_mix_is_zero_is_the_identity():
    unit = MSRU(8, 2)
    torch.nn.init.zeros_(unit.mix.weight)
    torch.nn.init.zeros_(unit.mix.bias)
    x = torch.rand(1, 8, 5, 6)
    assert torch.equal(unit(x), x)
