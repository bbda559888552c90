import pytest
import torch
from gpu import CUDA
from torch import nn

from training.replay import WARM, Replayed, Replays


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_what_is_replayed_learns_as_what_is_not(device):
    """Steps of a network with noise of its own, before and after they have become a graph."""
    device, ways = torch.device(device), []
    for wanted in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(4, 1).to(device)
        adam = torch.optim.Adam(layer.parameters(), 0.1, capturable=device.type == "cuda")
        noise = torch.Generator(device)

        def learn(x, layer=layer, adam=adam, noise=noise):
            shaken = x + torch.empty_like(x).uniform_(-0.1, 0.1, generator=noise)
            loss = layer(shaken).square().mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            return loss.detach()

        replays = Replays(device, wanted=wanted)
        replayed, move = Replayed(learn, replays, [noise]), Replayed(adam.step, replays)
        losses = []
        for count in range(WARM + 4):
            noise.manual_seed(count)
            x = torch.arange(8.0).view(2, 4) / (count + 1)
            losses.append(float(replayed(x.to(device))))
            move()
        assert replays.on == (device.type == "cuda" and wanted)
        ways.append((losses, layer.weight.detach().clone()))
    assert ways[0][0] == pytest.approx(ways[1][0], rel=1e-5)
    assert torch.allclose(ways[0][1], ways[1][1], rtol=1e-5)


@pytest.mark.parametrize("device", [CUDA])
def test_what_cannot_become_a_graph_goes_on_without_one(capsys, device):
    replays = Replays(torch.device(device))
    replayed, other = (
        Replayed(each, replays) for each in (lambda x: x * float(x.sum()), lambda x: x + 1)
    )
    for count in range(WARM + 3):
        x = torch.full((2,), float(count), device=device)
        assert torch.equal(replayed(x), x * 2 * count)
        assert torch.equal(other(x), x + 1)
    assert not replays.on
    assert capsys.readouterr().out.count("goes on without CUDA graphs") == 1
