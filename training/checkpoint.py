"""A run's state on disk, whole or not at all, and the weights that it ends with."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srpipe.errors import ConfigError, WeightsError


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing but tensors and plain values is unpickled.

    Raises
    ------
    WeightsError
        If the file is no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} is no checkpoint ({error}); remove it to start anew") from error


def same_recipe(saved: dict[str, Any], now: dict[str, Any], free: frozenset[str]) -> None:
    """Refuse to go on with another recipe than the run was begun with.

    Parameters
    ----------
    free : keys that may differ, since they only say how long and how closely watched

    Raises
    ------
    ConfigError
        Naming the first key that differs.
    """
    for section, entries in now.items():
        for key, value in entries.items():
            before = saved.get(section, {}).get(key)
            if key not in free and before != value:
                raise ConfigError(
                    f"this run was begun with {section}.{key} = {before}, not {value}; set it back"
                    " or choose another run folder"
                )


class Average:
    """Exponential moving average of a network's weights, quick at first and slow later."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = network.state_dict()
        targets: list[Tensor] = list(self.state.values())
        torch._foreach_lerp_(targets, [now[k] for k in self.state], 1 - decay)
