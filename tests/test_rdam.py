import pytest
import torch
from counts import macs_per_pixel, parameters

from srpipe.models.rdam import RDAM, Block, SpatialGate


@pytest.mark.parametrize(
    ("scale", "wanted", "millions"),
    [(2, 1_380_725, 1.374), (3, 1_565_365, 1.567), (4, 1_528_438, 1.985)],
)
def test_the_published_networks_have_their_parameters_and_cost(scale, wanted, millions):
    with torch.device("meta"):
        assert parameters(RDAM(scale)) == wanted
        assert parameters(Block(64, 16)) == 74_535
    assert macs_per_pixel(lambda: RDAM(scale)) == pytest.approx(millions, abs=0.001)


def test_the_spatial_gate_sees_the_maximum_and_the_mean_of_the_channels():
    gate = SpatialGate()
    with torch.no_grad():
        gate.conv.weight.zero_()
        gate.conv.weight[0, :, 3, 3] = torch.tensor([1.0, 10.0])
    x = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    assert torch.allclose(gate(x), x * torch.sigmoid(torch.tensor(2.0 + 10 * 0.5)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_spatial_gate_learns_as_its_formula(layout):
    """Its own backward pass against the numerical one, and what it gives against no learning."""
    gate = SpatialGate().double()
    x = torch.randn(2, 5, 6, 7, dtype=torch.double).to(memory_format=layout).requires_grad_()

    def given(x, kernel):
        return torch.func.functional_call(gate, {"conv.weight": kernel}, (x,))

    assert torch.autograd.gradcheck(given, (x, gate.conv.weight))
    with torch.no_grad():
        wanted = gate(x)
    assert torch.allclose(gate(x), wanted)


def test_a_trunk_serves_every_scale():
    trunks = [
        {key: value.shape for key, value in RDAM(scale).state_dict().items() if "trunk" in key}
        for scale in (2, 3, 4)
    ]
    assert trunks[0] == trunks[1] == trunks[2]
