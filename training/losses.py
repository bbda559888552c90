"""What the networks are trained to make small.

Every loss is computed in float32, but for `Perceptual`, whose network runs in the precision that
it is called in: in float32 a step would take up to twice as long.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.errors import WeightsError
from srpipe.gradients import full_precision, gradient_map
from srpipe.perceptual import CONV5_4, LPIPS, VGG19
from srpipe.resample import resize

Loss = Callable[[Tensor, Tensor], Tensor]

CELLS = 4
"""Side of the squares over which `grid` takes means, in input pixels."""


def l1(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference, in the units of the image, here [0, 1]."""
    return F.l1_loss(image.float(), truth.float())


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference, in the squared units of the image, here [0, 1]."""
    return F.mse_loss(image.float(), truth.float())


def gradient_l1(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the gradient maps of two images (GPSR's third term)."""
    return l1(gradient_map(image), gradient_map(truth))


def gradient_mse(image: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference of the gradient maps of two images (DGGN's third term)."""
    return mse(gradient_map(image), gradient_map(truth))


def gradient_supervision(maps: Sequence[Tensor], truth: Tensor) -> Tensor:
    """What gradient maps that a network predicts are off by: the sum of their `l1`.

    Every map is compared with the gradient map of the truth reduced to the map's size by bicubic
    (GPSR, the second term of its loss; EAGCL and DGGN predict one map, in the truth's size).

    Parameters
    ----------
    maps : predicted gradient maps (N, 3, h, w), whose sides divide the truth's
    truth : Tensor of shape (N, 3, H, W), float, in [0, 1]
    """
    sizes = [(each.shape[-2], each.shape[-1]) for each in maps]
    wanted = [gradient_map(resize(truth.float(), size)) for size in sizes]
    return torch.stack([l1(a, b) for a, b in zip(maps, wanted, strict=True)]).sum()


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


def grid(image: Tensor, truth: Tensor, scale: int) -> Tensor:
    """What the output pixels of an input pixel are off by, each on average over `CELLS`^2 of them.

    An input pixel becomes ``scale``^2 output pixels. Where one of them is too bright or too dark
    all over a square, that is a grid; where all are, a wrong colour. Texture cancels. Networks that
    compare features overlook a grid, and take it for the texture that they miss: what was trained
    without this loss had one of 3 levels of 256, and with it has less than 1.

    Parameters
    ----------
    image, truth : Tensors of shape (N, 3, H, W), float, in [0, 1]; H, W multiples of the scale
    """
    phases = F.pixel_unshuffle(image.float() - truth.float(), scale)
    side = [min(CELLS, cells) for cells in phases.shape[-2:]]
    return F.avg_pool2d(phases, side).abs().mean()


def cut(image: Tensor, corner: Tensor, corners: int) -> Tensor:
    """What of an image lies from a corner on, of the size that every corner leaves.

    Networks that compare features look at every other pixel, then at every other of those. Where
    every image that they see begins with an input pixel, they look at the same ones of its output
    pixels always, and what they are to see is learned for these: the loss lpips of what was
    trained so rose by up to a quarter where an image began one pixel further on. From corners
    drawn by chance it does not (E-LPIPS, Kettunen et al. 2019, arXiv:1906.03973, section 4).

    Parameters
    ----------
    image : Tensor of shape (N, C, H, W)
    corner : Tensor of two integers, on the image's device: row and column, below ``corners``
    corners : how many there are along each side, at most the image's
    """
    for axis, start in zip((-2, -1), corner, strict=True):
        kept = torch.arange(image.shape[axis] - corners + 1, device=image.device)
        image = image.index_select(axis, kept + start)
    return image


def steady(shaken: Tensor, image: Tensor) -> Tensor:
    """Root mean square of what two images differ by, in their units, here [0, 1].

    Of one network's image as it is and where every layer was off by a little, it is what the
    network makes of little errors. Large differences, such as at hard edges, count most: it is of
    the whole batch, and of several devices the mean of theirs.
    """
    return (mse(shaken, image) + 1e-16).sqrt()  # so that its slope is finite at zero


class Perceptual(nn.Module):
    """Mean difference of VGG19 features at conv5_4, before its ReLU (ESRGAN, section 3.3).

    In the units of the features, or their square: about 1 for torchvision's weights.

    Parameters
    ----------
    weights : a file with torchvision's names, ``features.0.weight`` and so on
    layer : index into torchvision's ``vgg19().features``; 34 is conv5_4
    criterion : "l1" as in ESRGAN and SPSR, or "mse" as in SRGAN

    Raises
    ------
    WeightsError
        If the file is missing or holds other tensors.
    """

    def __init__(
        self, weights: Path, layer: int = CONV5_4, criterion: Literal["l1", "mse"] = "l1"
    ) -> None:
        super().__init__()
        self.criterion = LOSSES[criterion]
        try:
            self.embed = VGG19(weights, layer)
        except WeightsError as error:
            raise WeightsError(
                f"the perceptual loss needs VGG19's weights: {error}, or set the loss's weight to 0"
            ) from error

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """The loss; no gradient flows into ``truth``."""
        with torch.no_grad():
            wanted = self.embed(truth)
        return self.criterion(self.embed(image), wanted)


class Lpips(nn.Module):
    """LPIPS 0.1 as a loss: the mean of the learned distance over the images, about 0 to 1.

    Zhang et al. 2018, arXiv:1801.03924, in float32.

    Parameters
    ----------
    net : "alex", "vgg" or "squeeze"; their numbers are not comparable
    weights : a file with torchvision's ``features.*`` of the backbone

    Raises
    ------
    WeightsError
        If the file is missing or holds other tensors.
    """

    def __init__(self, net: str, weights: Path) -> None:
        super().__init__()
        try:
            self.distance = LPIPS(net, weights)
        except WeightsError as error:
            raise WeightsError(
                f"the loss lpips needs a backbone: {error}, or set the loss's weight to 0"
            ) from error

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """The loss; no gradient flows into ``truth``."""
        with full_precision(image):
            return self.distance(image.float(), truth.float().detach()).mean()


LOSSES: dict[str, Loss] = {
    "l1": l1,
    "mse": mse,
    "gradient_l1": gradient_l1,
    "gradient_mse": gradient_mse,
    "gradient_correlation": gradient_correlation,
}
"""Losses of an image and its truth that need nothing set up."""
