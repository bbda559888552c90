import pytest
import torch
from gpu import CUDA

from training.optimiser import adam, set_rate


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("replayed", [False, True])
def test_a_checkpoint_of_another_device_becomes_one_of_this(device, replayed):
    """After one of a CPU, CUDA went on without graphs, which take a rate on the device."""
    device = torch.device(device)
    layer = torch.nn.Linear(2, 1).to(device)
    optimiser = adam(layer, 0.1, (0.9, 0.99), device)
    layer(torch.ones(1, 2, device=device)).sum().backward()
    optimiser.step()
    state = optimiser.state_dict()
    state["param_groups"][0] |= {
        "capturable": replayed,
        "lr": torch.tensor(0.1) if replayed else 0.1,
    }
    optimiser.load_state_dict(state)
    set_rate(optimiser, 0.05)
    before = layer.weight.detach().clone()
    optimiser.step()
    (group,) = optimiser.param_groups
    assert group["capturable"] == isinstance(group["lr"], torch.Tensor) == (device.type == "cuda")
    assert torch.allclose(layer.weight, before - 0.05, rtol=1e-4)
