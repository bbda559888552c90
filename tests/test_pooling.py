import pytest
import torch
from torch import nn

from srpipe.models.pooling import (
    Average,
    ChannelGate,
    GroupNorm,
    Moments,
    held,
    pools,
    recorded,
    whole,
)

QUARTERS = [(0, 3, 0, 5), (0, 3, 5, 9), (3, 8, 0, 5), (3, 8, 5, 9)]


@pytest.mark.parametrize("pool", [Average(), Average(maximum=True), Moments(2)])
def test_parts_recorded_one_after_the_other_give_the_statistics_of_the_whole(pool):
    x = 100 + torch.randn(1, 4, 8, 9, dtype=torch.double)
    wanted = pool.measure(x)
    with recorded(pool) as record:
        for top, bottom, left, right in QUARTERS:
            part = x[..., top:bottom, left:right]
            record.expect(part.shape[-2:], [(0, bottom - top, 0, right - left)])
            pool(part)
    (found,) = record.statistics().values()
    assert torch.allclose(found, wanted, rtol=1e-12)


def test_only_the_core_of_a_tile_counts_also_at_a_higher_resolution():
    pool, x = Average(), torch.rand(2, 3, 8, 12)
    with recorded(pool) as record:
        record.expect((4, 6), [(1, 3, 0, 4), (0, 0, 0, 0)])  # of the second tile, nothing
        pool(x)
    (found,) = record.statistics().values()
    assert torch.allclose(found[0, 0], x[0, :, 2:6, 0:8].mean((1, 2), keepdim=True))


def test_a_record_of_another_number_of_images_is_refused():
    pool, two = Average(), torch.rand(2, 3, 4, 4)
    with recorded(pool) as record:
        record.expect((4, 4), [(0, 4, 0, 4)])
        with pytest.raises(ValueError, match="1 images were expected"):
            pool(two)


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 32), (37, 50)])
def test_the_largest_value_is_found_wherever_it_lies(size):
    x = -1 - torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x[1, 2, -1, -1] = x[0, 1, 0, 0] = -0.5
    for each in (x, x.contiguous(memory_format=torch.channels_last), x.bfloat16()):
        found = Average(maximum=True)(each)[:, 1, :, 0, 0]
        assert torch.equal(found, each.amax((2, 3)).float())


def test_moments_by_hand():
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 2, 1, 2)
    assert Moments(1).measure(x).flatten().tolist() == [4, 5]
    assert Moments(2).measure(x).flatten().tolist() == [2, 6, 1, 1]


def test_the_group_norm_is_torchs():
    x = torch.randn(2, 6, 5, 7)
    ours, theirs = GroupNorm(3, 6), nn.GroupNorm(3, 6)
    with torch.no_grad():
        ours.weight.uniform_()
        ours.bias.uniform_()
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))
    one = x[:1]
    with held(ours, whole(ours, one)):
        assert torch.allclose(ours(one), theirs(one), atol=1e-6)


def test_a_channel_gate_by_hand():
    gate = ChannelGate(2, 1, maximum=True)
    with torch.no_grad():
        gate.squeeze.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        gate.expand.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        gate.squeeze.bias.zero_()
        gate.expand.bias.zero_()
    x = torch.tensor([[1.0, 3.0], [-2.0, -4.0]]).view(1, 2, 1, 2)
    wanted = x * torch.sigmoid(torch.tensor([2.0 + 3.0, 0.0])).view(1, 2, 1, 1)
    assert torch.allclose(gate(x), wanted)


@pytest.mark.parametrize("size", [(1, 1), (5, 6), (17, 3)])
@pytest.mark.parametrize("maximum", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_channel_gate_learns_as_its_formula(size, maximum, layout):
    """Its own backward pass against the numerical one, and what it gives against no learning."""
    gate = ChannelGate(4, 2, maximum=maximum).double()
    x = torch.randn(2, 4, *size, dtype=torch.double).to(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(gate, (x,))
    with torch.no_grad():
        wanted = gate(x)
    assert torch.allclose(gate(x), wanted)


def test_a_gradient_may_lie_in_memory_as_it_will():
    gate = ChannelGate(4, 2, maximum=True).double()
    x = torch.randn(1, 4, 5, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: gate(given).mT.contiguous(), (x,))


def test_what_is_held_is_used_for_every_part_and_forgotten_afterwards():
    network = nn.Sequential(ChannelGate(4, 2), GroupNorm(2, 4)).double()
    x = torch.randn(1, 4, 8, 9, dtype=torch.double)
    wanted = network(x)
    with held(network, whole(network, x)):
        parts = [network(x[..., a:b, c:d]) for a, b, c, d in QUARTERS]
        for part, (a, b, c, d) in zip(parts, QUARTERS, strict=True):
            assert torch.allclose(part, wanted[..., a:b, c:d])
    assert not torch.allclose(network(x[..., :3, :5]), wanted[..., :3, :5])
    assert all(pool.held is None and pool.record is None for pool in pools(network).values())


def test_statistics_that_are_missing_are_an_error():
    network = nn.Sequential(GroupNorm(2, 4))
    with pytest.raises(KeyError, match=r"0\.moments"), held(network, {}):
        pass


def test_statistics_are_float32_whatever_the_features_are():
    x = torch.randn(1, 4, 3, 3).bfloat16()
    assert {p.measure(x).dtype for p in (Average(maximum=True), Moments(2))} == {torch.float32}
