"""What the networks are trained to make small; every loss is computed in float32."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from srpipe.errors import WeightsError
from srpipe.gradients import gradient_map

Loss = Callable[[Tensor, Tensor], Tensor]


def l1(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference, in the units of the image, here [0, 1]."""
    return F.l1_loss(image.float(), truth.float())


def gradient_l1(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the gradient maps of two images."""
    return l1(gradient_map(image), gradient_map(truth))


def gradient_correlation(image: Tensor, truth: Tensor) -> Tensor:
    """``1 - r``: 0 where the gradient maps of two images rise and fall together, at most 2.

    ``r`` is Pearson's correlation of the two maps over all positions, per image and channel, then
    averaged (EAGCL-SR, Eq. 4, with the variances that its text means; Eq. 5 adds ``+r``, which
    would pull edges apart).
    """
    return 1 - correlation(gradient_map(image), gradient_map(truth)).mean()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation over the last two axes, shape (N, C); 0 where a map is constant."""
    a = a.float() - a.float().mean((-2, -1), keepdim=True)
    b = b.float() - b.float().mean((-2, -1), keepdim=True)
    # The floor is under the root: a flat patch has no spread, and beside the root its slope is
    # infinite there, which made weights of one such patch not a number.
    spread = (a.square().sum((-2, -1)) * b.square().sum((-2, -1)) + 1e-16).sqrt()
    return (a * b).sum((-2, -1)) / spread


def relativistic(wins: Tensor, loses: Tensor) -> Tensor:
    """Relativistic average adversarial loss: small where ``wins`` lie above ``loses``.

    Jolicoeur-Martineau 2018, arXiv:1807.00734, as in ESRGAN: the mean of the cross entropies of
    ``wins - mean(loses)`` towards 1 and ``loses - mean(wins)`` towards 0. The critic wants the
    real ones to win, the generator its own.

    Parameters
    ----------
    wins, loses : critic's logits of shape (N, 1)
    """
    up = F.softplus(-(wins.float() - loses.float().mean()))
    down = F.softplus(loses.float() - wins.float().mean())
    return (up.mean() + down.mean()) / 2


class Perceptual(nn.Module):
    """Mean absolute difference of VGG19 features at conv5_4, before its ReLU (ESRGAN, section 3.3).

    Parameters
    ----------
    weights : a safetensors file with torchvision's names, ``features.0.weight`` and so on
    layer : index into torchvision's ``vgg19().features``; 34 is conv5_4

    Raises
    ------
    WeightsError
        If the file is missing or holds other tensors.
    """

    def __init__(self, weights: Path, layer: int = 34) -> None:
        super().__init__()
        from torchvision.models import vgg  # part of the extra "train"

        self.features = vgg.make_layers(vgg.cfgs["E"])[: layer + 1]
        for module in self.features:
            if isinstance(module, nn.ReLU):
                module.inplace = False
        try:
            tensors = load_file(weights)
            state = {
                name: tensors[f"features.{name}"].float() for name in self.features.state_dict()
            }
        except (OSError, SafetensorError, KeyError) as error:
            raise WeightsError(
                f"the perceptual loss needs VGG19's weights, and {weights} does not give them"
                f" ({error}); name a safetensors file with torchvision's features.*, or set the"
                " loss's weight to 0"
            ) from error
        self.features.load_state_dict(state)
        self.features.requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean = nn.Buffer(torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.std = nn.Buffer(torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def embed(self, image: Tensor) -> Tensor:
        """Features of RGB images (N, 3, H, W) in [0, 1]."""
        return self.features((image - self.mean) / self.std)

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """The loss; no gradient flows into ``truth``."""
        with torch.no_grad():
            wanted = self.embed(truth)
        return l1(self.embed(image), wanted)


LOSSES: dict[str, Loss] = {
    "l1": l1,
    "gradient_l1": gradient_l1,
    "gradient_correlation": gradient_correlation,
}
"""Losses of an image and its truth that need nothing set up."""
