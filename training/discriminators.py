"""Critics: networks that tell enlarged images from real ones."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.errors import ConfigError


class VGGCritic(nn.Module):
    """ESRGAN's critic: convolutions that halve the size and double the width, then two layers.

    Parameters
    ----------
    size : side of the images it judges, in pixels: a multiple of ``2**levels``
    width : channels of the first convolution; eight times as many at most
    norm : "batch", or None for a critic with a gradient penalty

    Raises
    ------
    ConfigError
        If the size cannot be halved often enough.
    """

    def __init__(
        self, size: int, *, width: int = 64, norm: Literal["batch"] | None = "batch"
    ) -> None:
        super().__init__()
        levels = 6 if size % 64 == 0 and size > 128 else 5
        if size % 2**levels:
            raise ConfigError(
                f"a critic for {size} px cannot halve it {levels} times; use a patch that is a"
                f" multiple of {2**levels} px"
            )
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(levels):
            if level:
                grown = min(2 * channels, 8 * width)
                layers += _step(nn.Conv2d(channels, grown, 3, padding=1), norm)
                channels = grown
            half = nn.Conv2d(channels, channels, 4, stride=2, padding=1)
            layers += _step(half, norm)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * (size >> levels) ** 2, 100)
        self.out = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, size, size) to logits (N, 1), float32."""
        y = self.features(x).float().flatten(1)
        return self.out(F.leaky_relu(self.hidden(y), 0.2))


def _step(conv: nn.Conv2d, norm: str | None) -> list[nn.Module]:
    middle = [nn.BatchNorm2d(conv.out_channels)] if norm else []
    return [conv, *middle, nn.LeakyReLU(0.2)]
