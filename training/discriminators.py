"""Critics: networks that tell enlarged images from real ones."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.errors import ConfigError
from srpipe.gradients import full_precision

Norm = Literal["batch", "none"]


class VGGCritic(nn.Module):
    """ESRGAN's critic: convolutions that halve the size and double the width, then two layers.

    Its weights begin as ESRGAN's, which EAGCL and DGGN ask for: with PyTorch's own, and no norm,
    the answers hardly depend on the image, and a critic with a gradient penalty does not learn.

    Parameters
    ----------
    size : side of the images it judges, in pixels: a multiple of ``2**levels``
    width : channels of the first convolution; eight times as many at most
    norm : "batch", or "none" for a critic with a gradient penalty

    Raises
    ------
    ConfigError
        If the size cannot be halved often enough.
    """

    def __init__(self, size: int, *, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        levels = 6 if size % 64 == 0 and size > 128 else 5
        self.reduced = 2**levels
        if size % self.reduced:
            raise ConfigError(
                f"a critic for {size} px cannot halve it {levels} times; use a patch that is a"
                f" multiple of {2**levels} px, or critic.network=pooled"
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
        self.apply(_begun)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, size, size) to logits (N, 1), float32."""
        y = self.features(x)
        with full_precision(x):
            return self.out(F.leaky_relu(self.hidden(y.float().flatten(1)), 0.2))


class PooledCritic(nn.Module):
    """SRGAN's critic for images of any size: the last features are averaged (attention-SRGAN).

    Eight 3 x 3 convolutions, every second of which halves the size (Ledig et al. 2017,
    arXiv:1609.04802), then two layers on the mean. Its weights begin as PyTorch's, as those of
    attention-SRGAN, but for a critic without norm, which begins as `VGGCritic` does.

    Parameters
    ----------
    width : channels of the first convolution; they double three times
    norm : "batch", or "none" for a critic with a gradient penalty
    """

    def __init__(self, *, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        self.reduced = 16
        channels = width
        for step in range(1, 8):
            grown = width << step // 2
            conv = nn.Conv2d(channels, grown, 3, stride=1 + step % 2, padding=1)
            layers += _step(conv, norm)
            channels = grown
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels, 16 * width)
        self.out = nn.Linear(16 * width, 1)
        if norm == "none":
            self.apply(_begun)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, 1), float32."""
        y = self.features(x)
        with full_precision(x):
            return self.out(F.leaky_relu(self.hidden(y.float().mean((2, 3))), 0.2))


def _step(conv: nn.Conv2d, norm: Norm) -> list[nn.Module]:
    middle = [nn.BatchNorm2d(conv.out_channels)] if norm == "batch" else []
    return [conv, *middle, nn.LeakyReLU(0.2)]


def _begun(layer: nn.Module) -> None:
    """Give a layer weights that keep the size of what passes through it (He et al. 2015)."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, 0.2)
        nn.init.zeros_(layer.get_parameter("bias"))
