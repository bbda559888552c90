"""The numbers that a measurement has: what each means, how it is printed and computed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from srpipe.device import found
from srpipe.errors import PixelError
from srpipe.metrics import color_shift, gradient_error, luma, psnr, ssim
from srpipe.perceptual import LPIPS, NIQE_SIDE, VGG19, no_reference
from srpipe.precision import whole_float32
from srpipe.settings import EvalSettings


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a number means.

    Parameters
    ----------
    heading : over its column; the arrow points to better
    about : its definition, for the protocol
    digits : after the decimal point, in a table
    """

    heading: str
    about: str
    digits: int = 4


@dataclass(frozen=True, kw_only=True)
class Metric(Figure):
    """A number for each picture.

    Parameters
    ----------
    of : of an image and its truth, each (1, 3, H, W) in [0, 1]; of the image alone where `alone`
    side_min : the shortest side that it takes, in pixels, where `of` does not say so itself
    """

    of: Callable[..., Tensor]
    alone: bool = False
    side_min: int = 1

    def check_side(self, side: int) -> None:
        """See that a picture with this shortest side can be measured.

        Raises
        ------
        PixelError
            If it is too short.
        """
        if side < self.side_min:
            raise PixelError(
                f"{self.heading.rstrip(' ↑↓')} takes sides of {self.side_min} px or more, not of"
                f" {side} px; leave the picture out"
            )


_PSNR = "PSNR in dB from each picture's mean square error"
_SSIM = "SSIM in a Gaussian window of 11 px with a deviation of 1.5 px, mean over channels"
_LUMA = "Y is the luma of BT.601 from 16 to 235, as in MATLAB's rgb2ycbcr"

METRICS: dict[str, Metric] = {
    "psnr_y": Metric(
        heading="PSNR-Y ↑",
        about=f"{_PSNR}. {_LUMA}",
        digits=2,
        of=lambda image, truth: psnr(luma(image), luma(truth)),
    ),
    "ssim_y": Metric(
        heading="SSIM-Y ↑", about=_SSIM, of=lambda image, truth: ssim(luma(image), luma(truth))
    ),
    "psnr_rgb": Metric(heading="PSNR-RGB ↑", about=f"{_PSNR}. {_LUMA}", digits=2, of=psnr),
    "ssim_rgb": Metric(heading="SSIM-RGB ↑", about=_SSIM, of=ssim),
    "color_shift": Metric(
        heading="colour shift ↓",
        about="Colour shift: how far a channel's mean is from the truth's, mean over channels, in"
        " levels of 8 bits",
        digits=2,
        of=lambda image, truth: color_shift(image, truth).abs().mean(1),
    ),
    "gradient_l1": Metric(
        heading="gradient L1 ↓",
        about="Gradient L1: mean absolute difference of the lengths of the central differences,"
        " for values from 0 to 1",
        of=gradient_error,
    ),
}
"""What is always measured."""

FLICKER: dict[str, Figure] = {
    "flicker": Figure(
        heading="flicker ↓",
        about="Flicker: root mean square, in levels of 8 bits, of what changes from frame to frame"
        " beyond the change of the bicubically enlarged input, where the input is still (it"
        " changes by 2 levels or less, on average over 7 x 7 px)",
        digits=3,
    ),
    "flicker_coarse": Figure(
        heading="of it coarse ↓", about="Coarse: the same, reduced to the input's size", digits=3
    ),
    "still": Figure(heading="still", about="Still: the share of such places", digits=2),
}
"""What is measured of a video whose input is known."""


def asked(settings: EvalSettings) -> dict[str, Metric]:
    """The metrics that need more than arithmetic, as far as they are wanted.

    Raises
    ------
    ConfigError, WeightsError
        If one of them lacks its package or its weights.
    """
    device = str(found(settings.device))
    wanted: dict[str, Metric] = {}
    for words in settings.lpips:
        net, _, file = words.partition("=")
        wanted[f"lpips_{net}"] = lpips(net, Path(file) if file else None, device)
    if settings.vgg:
        wanted["vgg19"] = vgg(settings.vgg, device)
    if settings.niqe:
        wanted["niqe"] = _alone("niqe", device)
    if settings.pi:
        wanted["pi"] = _alone("pi", device)
    return wanted


def lpips(net: str, file: Path | None = None, device: str = "cpu") -> Metric:
    """LPIPS as a metric; see `srpipe.perceptual.LPIPS`."""
    network = LPIPS(net, file).to(device)
    return Metric(
        heading=f"LPIPS ({net}) ↓",
        about=f"LPIPS ({net}): version 0.1 of the lpips package,"
        f" backbone {file.name if file else 'of torchvision'}",
        of=_on(device, network),
        side_min=32,
    )


def vgg(file: Path, device: str = "cpu") -> Metric:
    """Mean absolute difference of VGG19's features as a metric; see `srpipe.perceptual.VGG19`."""
    network = VGG19(file).to(device)

    def distance(image: Tensor, truth: Tensor) -> Tensor:
        return (network(image) - network(truth)).abs().mean((1, 2, 3))

    about = f"VGG19: mean absolute difference of conv5_4 before its ReLU, weights {file.name}"
    return Metric(heading="VGG19 ↓", about=about, of=_on(device, distance), side_min=16)


def _on(device: str, measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A measurement by a network that is on a device, in float32 whose bits all count."""

    def measured(image: Tensor, truth: Tensor) -> Tensor:
        with whole_float32(torch.device(device)):
            return measure(image.to(device), truth.to(device))

    return measured


def _alone(name: Literal["niqe", "pi"], device: str) -> Metric:
    measured = no_reference(name, device)
    heading = name.upper()

    def quality(image: Tensor) -> Tensor:
        try:
            found = measured(image)
        except torch.linalg.LinAlgError:
            found = torch.tensor(math.nan)
        if not found.isfinite().all():
            raise PixelError(
                f"{heading} finds no texture to measure; leave the picture or {heading} out"
            )
        return found

    about = f"{heading} as the package pyiqa computes it"
    return Metric(heading=f"{heading} ↓", about=about, of=quality, alone=True, side_min=NIQE_SIDE)
