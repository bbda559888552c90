"""Adam, as all networks of a run have it."""

from typing import Any

import torch
from torch import nn


def adam(
    network: nn.Module, rate: float, betas: tuple[float, float], device: torch.device
) -> torch.optim.Adam:
    """Adam in one kernel; on CUDA its rate and its count of steps are on the device too.

    There a step can be replayed: see `training.replay`.
    """
    replays = device.type == "cuda"
    start = torch.tensor(rate, device=device) if replays else rate
    return torch.optim.Adam(network.parameters(), start, betas, fused=True, capturable=replays)


def set_rate(optimiser: Any, rate: float) -> None:
    """Give an optimiser another learning rate, in its place on the device if that is CUDA.

    A checkpoint's is on the CPU, and where the run was on another device it is of the other kind.
    """
    for group in optimiser.param_groups:
        device = group["params"][0].device
        group["capturable"] = device.type == "cuda"
        if group["capturable"]:
            group["lr"] = torch.as_tensor(group["lr"]).to(device).fill_(rate)
        else:
            group["lr"] = rate
