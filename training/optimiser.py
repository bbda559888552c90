"""Adam, as all networks of a run have it."""

from typing import Any

import torch
from torch import Tensor, nn


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
    """Give an optimiser another learning rate, in its place on the device if it has one."""
    for group in optimiser.param_groups:
        now = group["lr"]
        if isinstance(now, Tensor):  # a checkpoint's is on the CPU
            group["lr"] = now.to(group["params"][0].device).fill_(rate)
        else:
            group["lr"] = rate
