"""A network whose answer is known: each pixel repeated, times a gain that tells the weights apart.

As a script it is the command `srpipe` with this network in its table, for tests in a process of
their own.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from srpipe import zoo
from srpipe.models import MODELS, ModelSpec
from srpipe.models.pooling import ChannelGate

GAINS = {"fidelity": 1.0, "perception": 0.5}


class Toy(nn.Module):
    def __init__(self, *, scale: int, sleep_s: float = 0, gated: bool = False) -> None:
        super().__init__()
        self.scale, self.sleep_s = scale, sleep_s
        self.gain = nn.Parameter(torch.ones(1))
        if gated:  # a result that depends on the whole input
            self.gate = ChannelGate(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:
            time.sleep(self.sleep_s)  # stands for a call that nothing can stop
        x = self.gate(x) if hasattr(self, "gate") else x
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3) * self.gain


SPEC = ModelSpec(
    build=Toy, scales=(2, 4), presets={"lite": {}}, halo=lambda **options: 0, source="this file"
)


def install(
    folder: Path,
    *,
    sleep_s: float = 0,
    gated: bool = False,
    stages: tuple[str, ...] = tuple(GAINS),
    source: str = "clean",
) -> Path:
    """Weights for the scale of 2, with their cards, in a folder."""
    for stage in stages:
        torch.manual_seed(0)
        state = Toy(scale=2, gated=gated).state_dict() | {"gain": torch.tensor([GAINS[stage]])}
        zoo.Card(
            family="toy",
            preset="lite",
            scale=2,
            stage=stage,
            source=source,
            options={"sleep_s": sleep_s, "gated": gated},
            parameters=sum(tensor.numel() for tensor in state.values()),
            halo=0,
            files=zoo.store(state, folder, f"{zoo.network_name('toy', 'lite', 2, source)}-{stage}"),
            folder=folder,
        ).write()
    return folder


if __name__ == "__main__":
    from srpipe.cli import main

    MODELS["toy"] = SPEC
    sys.exit(main())
