"""A run's state on disk, whole or not at all, and the weights that it ends with."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from srpipe.device import is_out_of_memory
from srpipe.errors import ConfigError, WeightsError
from training.recipe import default


class Part(Protocol):
    """What a run's next step depends on, or a part of it."""

    def state_dict(self) -> Any:
        """Tensors and plain values."""

    def load_state_dict(self, state: Any) -> Any:
        """Be what the state was taken from."""


class Facts(dict[str, Any]):
    """Plain values that a run was begun with; a checkpoint of before it kept them has none."""

    def state_dict(self) -> dict[str, Any]:
        """The values."""
        return dict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be those of a checkpoint."""
        self.clear()
        self.update(state)


class Chance(Generator):
    """A source of random numbers, on the CPU, whose state can be kept."""

    def state_dict(self) -> dict[str, Tensor]:
        """Where it stands."""
        return {"state": self.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where one stood."""
        self.set_state(state["state"])


class Average:
    """Exponential moving average of a network's weights, quick at first and slow later."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        now = network.state_dict()  # shares its memory with the network, now and later
        self._now: list[Tensor] = list(now.values())
        self.state = {name: tensor.clone() for name, tensor in now.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in what the network is after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        targets: list[Tensor] = list(self.state.values())
        torch._foreach_lerp_(targets, self._now, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from averaged weights."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])


def save(path: Path, recipe: dict[str, Any], parts: Mapping[str, Part]) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    part = path.with_name(path.name + ".part")
    state = {name: each.state_dict() for name, each in parts.items()}
    try:
        with part.open("wb") as file:
            torch.save({"recipe": recipe, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # which torch says in words of its own
            raise error.__context__ from None
        raise
    finally:
        part.unlink(missing_ok=True)


def restore(
    path: Path, recipe: dict[str, Any], parts: Mapping[str, Part], free: frozenset[str]
) -> None:
    """Put the parts of a run into the state of a checkpoint.

    Nothing but tensors and plain values is unpickled.

    Parameters
    ----------
    free : ``section.key`` of what may differ, since no step depends on it

    Raises
    ------
    ConfigError
        If the checkpoint is of another recipe; the first key that differs is named.
    WeightsError
        If the file is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        _same(state["recipe"], recipe, free)
        for name, part in parts.items():
            part.load_state_dict(state.get(name, {}))  # which all but `Facts` refuse
    except (ConfigError, PermissionError):
        raise
    except Exception as error:
        if is_out_of_memory(error):  # what is sound is not to be removed for it
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise WeightsError(
            f"{path} is no checkpoint ({reason}); remove it to start anew"
        ) from error


def _same(saved: dict[str, Any], now: dict[str, Any], free: frozenset[str]) -> None:
    for section, entries in now.items():
        for key, value in entries.items():
            before = saved.get(section, {}).get(key, default(section, key))
            if f"{section}.{key}" not in free and before != value:
                raise ConfigError(
                    f"this run was begun with {section}.{key} = {before}, not {value}; set it back"
                    " or choose another run folder"
                )
