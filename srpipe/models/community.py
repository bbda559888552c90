"""Networks that others designed and trained, as far as the package spandrel knows them."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srpipe.errors import ConfigError, WeightsError

HALO = 32
"""Input pixels around a tile of a network that sees too far for all of it to be read.

No measurement of its weights says how far they really look: RRDB, the largest of the common ones,
could look 349 px far. Tiles are mixed over as many pixels, which hides what is left.
"""

_FARTHEST = 64  # pixels; a larger halo costs more than it mends
_ALIGNMENT = 16  # pixels; windows and strides of 2, 4, 8 and 16 are common, and not all declared
_RGB = 3, 3  # channels in and out


class Community(nn.Module):
    """A network with the face of ours: RGB of any size in [0, 1], float, not clamped.

    What is too small for it, or no multiple of what it asks for, is mirrored at the bottom and at
    the right, and the result is cut.

    Parameters
    ----------
    state : its weights, in any of the wrappings that training scripts give them
    name : how errors call them

    Raises
    ------
    WeightsError
        If spandrel knows no network that they fit.
    ConfigError
        If the network does something else than to enlarge RGB, or spandrel is not installed.
    """

    def __init__(self, state: Mapping[str, Any], name: str) -> None:
        super().__init__()
        found = _descriptor(state, name)
        self.inner: nn.Module = found.model.eval()
        # not the descriptor itself: it clamps, which would hide what overflowed in low precision
        self._call = found._call_fn
        self._sizes = found.size_requirements
        self.scale: int = found.scale
        self.architecture: str = found.architecture.name
        self.tags: tuple[str, ...] = tuple(found.tags)
        self.alignment = math.lcm(self._sizes.multiple_of, _ALIGNMENT)
        self.precisions = ("fp32", "fp16") if found.supports_half else ("fp32",)
        """Without bf16: the whole network is cast, and 8 bits of mantissa show in its output."""
        self.smallest: int = max(self._sizes.minimum, self.alignment)
        """Side below which an image costs as much as one of this side."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarged images, (N, 3, H * scale, W * scale), in the type of `x`."""
        height, width = x.shape[2:]
        right, down = self._sizes.get_padding(width, height)
        whole = _mirrored(_mirrored(x, height + down, 2), width + right, 3)
        # one by one: spandrel promises no more of them; copies: RCAN works in its input
        larger = [self._call(self.inner, image.clone()) for image in whole.split(1)]
        y = larger[0] if len(larger) == 1 else torch.cat(larger)
        return y[..., : height * self.scale, : width * self.scale]


def reach(network: Community) -> int | None:
    """Receptive radius in input pixels; None where it is more than 64 px.

    Whatever depends on a value that is not a number becomes none either. So one such pixel in a
    strip shows how far it is seen; then one at each place within the alignment does, down and
    across, far enough apart to be told from each other.
    """
    if network.alignment > _ALIGNMENT:
        return None  # strides so long see farther than that
    seen = 0
    for count in (1, network.alignment):
        for axis in (2, 3):
            far = _seen(network, count, axis)
            if far is None:
                return None
            seen = max(seen, far)
    return seen


def _seen(network: Community, count: int, axis: int) -> int | None:
    """How far the first so many places within the alignment are seen along an axis."""
    step = network.alignment
    margin = math.ceil((_FARTHEST + 1) / step) * step
    places = margin + torch.arange(count) * (2 * margin + 1)
    strip = torch.full((1, 3, (2 * count + 1) * margin + step, 1), 0.5)
    strip[:, :, places] = torch.nan
    with torch.no_grad():
        y = network(strip if axis == 2 else strip.mT)
    others = [other for other in range(4) if other != axis]
    touched = y.isnan().sum(others).nonzero() // network.scale
    far = (touched - places).abs().amin(1)
    # as far as can be told from the next, or swallowed on the way: nothing is known
    return None if len(far) == 0 or far.max() > _FARTHEST else int(far.max())


def _descriptor(state: Mapping[str, Any], name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries to each other
        return _found(state, name)


def _found(state: Mapping[str, Any], name: str) -> Any:
    try:
        import spandrel
    except ImportError as error:
        raise ConfigError(
            f'{name} needs the package spandrel ({error}); pip install "srpipe[community]"'
        ) from error
    try:
        found = spandrel.MAIN_REGISTRY.load(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise WeightsError(
            f"{name} fits no network that spandrel {spandrel.__version__} knows; if it is one of"
            " srpipe's own, its card (.json) must lie beside it"
        ) from error
    except Exception as error:  # whatever forty architectures raise at weights that do not fit
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise WeightsError(
            f"{name} looks like a network that spandrel knows and does not fit it"
            f" ({reason[0].strip()}); is it damaged?"
        ) from error
    problem = _problem(found, spandrel)
    if problem is not None:
        raise ConfigError(f"{name} {problem}")
    return found


def _problem(found: Any, spandrel: Any) -> str | None:
    """Why a network is of no use here, if so."""
    if not isinstance(found, spandrel.ImageModelDescriptor):
        return "fills in what a mask leaves out; use a model that enlarges"
    if found.purpose == "FaceSR":
        return "takes single faces of one size; use a model for whole pictures"
    channels = found.input_channels, found.output_channels
    if channels != _RGB:
        return (
            f"takes {channels[0]} and gives {channels[1]} channels, not 3 as RGB has; use a model"
            " for RGB"
        )
    return None


def _mirrored(x: Tensor, length: int, axis: int) -> Tensor:
    """Continue an axis by its mirror image, back and forth, up to this length."""
    before = x.shape[axis]
    if length == before:
        return x
    period = max(2 * before - 2, 1)
    index = torch.arange(length, device=x.device) % period
    return x.index_select(axis, torch.minimum(index, period - index))
