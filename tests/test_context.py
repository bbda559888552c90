import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from srpipe.context import gathered, spread
from srpipe.models.pooling import ChannelGate, GroupNorm, whole

TILES = [(slice(a, a + 8), slice(b, b + 8)) for a in (0, 8) for b in (0, 8, 16)]


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 1), GroupNorm(4, 8), ChannelGate(8, 2, maximum=True), GroupNorm(2, 8)]
    return nn.Sequential(*layers).double()


def parts(x):
    return lambda: [(x[..., y, x_], [(0, 8, 0, 8)]) for y, x_ in TILES]


def off(found, wanted):
    return max(float((found[key] - wanted[key]).abs().max()) for key in wanted)


def test_every_pass_makes_one_more_layer_exact(network):
    x = torch.rand(1, 3, 16, 24, dtype=torch.double).cumsum(3)  # every tile has its own brightness
    wanted = whole(network, x)
    with torch.no_grad():
        found = [gathered(network, parts(x), passes=passes) for passes in (1, 2, 3)]
    for passes, statistics in enumerate(found, 1):
        for key in list(wanted)[:passes]:
            assert torch.allclose(statistics[key], wanted[key], rtol=1e-10)
    assert off(found[0], wanted) > 0.1
    assert off(found[2], wanted) < 1e-9


def test_a_network_without_such_layers_has_no_statistics():
    assert gathered(nn.Conv2d(3, 3, 1), parts(torch.rand(1, 3, 16, 24))) == {}


@given(st.integers(1, 300), st.integers(1, 80))
def test_a_spread_holds_nothing_twice_and_all_where_they_are_few(count, most):
    found = spread(range(count), most)
    assert len(set(found)) == len(found) == min(count, most)
    assert set(found) <= set(range(count))


@given(st.integers(8, 80), st.integers(8, 80))
def test_the_first_parts_of_a_grid_come_from_all_over_it(rows, columns):
    parts = [(y, x) for y in range(rows) for x in range(columns)]
    found = spread(parts, 32)
    for axis, length in enumerate((rows, columns)):
        halves = sum(part[axis] < length / 2 for part in found)
        assert 5 <= halves <= 27
        assert len({part[axis] for part in found}) >= 5


def test_the_images_of_a_batch_share_their_statistics_so_one_batch_of_all_is_exact(network):
    x = torch.rand(1, 3, 16, 24, dtype=torch.double).cumsum(3)

    def parts():
        yield torch.cat([x[..., y, x_] for y, x_ in TILES]), [(0, 8, 0, 8)] * len(TILES)

    wanted = whole(network, x)
    with torch.no_grad():
        assert off(gathered(network, parts, passes=1), wanted) < 1e-9
