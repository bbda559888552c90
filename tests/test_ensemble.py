"""Eight ways to lay a picture, each of which can be undone."""

import itertools

import pytest
import torch

from srpipe.ensemble import TURNS, Mean, returned, turned
from srpipe.jobs import Engine
from srpipe.settings import RunSettings

PICTURES = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


def test_there_are_eight_ways_and_all_are_different():
    square = torch.arange(4.0).reshape(1, 1, 2, 2)
    ways = [turned(square, turn) for turn in TURNS]
    assert len(ways) == 8
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(ways, 2))
    # the corners stay neighbours: only flips and rotations, no shuffling
    assert all(w[0, 0, 0, 0] + w[0, 0, 1, 1] == 3 for w in ways)
    assert torch.equal(ways[0], square)


def test_each_way_can_be_undone():
    for turn in TURNS:
        assert torch.equal(returned(turned(PICTURES, turn), turn), PICTURES)


def test_the_mean_and_the_spread_are_those_of_the_textbook():
    stack = torch.rand(8, 2, 3, 4, 6, generator=torch.Generator().manual_seed(1)) + 100
    found = Mean(stack[0].clone(), spread=True)
    for turn in TURNS[1:]:
        found.add(turned(stack[turn], turn), turn)
    assert torch.allclose(found.mean.double(), stack.double().mean(0), rtol=1e-6)
    spread = stack.double().std(0, correction=0)
    assert (found.spread.double() - spread).abs().max() < 1e-4 * spread.max()


def test_what_is_equal_has_no_spread_at_all():
    found = Mean(PICTURES.clone(), spread=True)
    for turn in TURNS[1:]:
        found.add(turned(PICTURES, turn), turn)
    assert torch.equal(found.mean, PICTURES)
    assert not found.spread.any()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_setting_asks_for_it(toy, wanted):
    settings = RunSettings(model="toy", weights=toy, ensemble=wanted)
    assert Engine().upscaler(settings, perception=0.0, bits=8).ensemble == wanted
