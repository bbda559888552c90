"""What an enlargement keeps of its input, and what it adds to it; functions of tensors alone.

An enlargement is degraded back with the kernel that the networks are trained against, and compared
with the input; what it has beyond a bicubic enlargement of the input was never measured. Pictures
are (C, H, W), in any unit. The input lies on the larger picture corner to corner; in between may be
any scale, also a fraction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.errors import PixelError
from srpipe.resample import resize
from srpipe.windows import Rect, cut, scaled

KERNEL = "bicubic, a = -0.5, antialiased, as MATLAB's imresize"
"""How a result is degraded back."""

REACH = 2
"""Input pixels around one that its residual, and the detail added to it, depend on."""

STEPS = 6
"""Of `projected`: after as many, a 250th of the residual is left at most, root mean square."""

PROJECTION_REACH = 2 * REACH + 3 * (STEPS - 1)
"""Input pixels around one that `projected` looks at: to enlarge and degrade back reaches for 3."""

SYNTHESISED = "contains synthesised detail"
"""What the record of every result says of it."""

WARNING = (
    "this model adds detail that was not measured: not for counting, thresholding or measuring"
    " intensities, unless checked against ground truth of your own"
)

_LEAST_GAIN = 0.23  # of any pattern that is enlarged and degraded back: 0.53 along each axis
_SHIFT_SIDE = 8  # pixels: in fewer there is nothing to correlate
_SHIFT_STEPS = 100  # parts of a pixel that a shift is told in


def warning(perception: float | None) -> str | None:
    """What to say where this place on the dial meets measured data; None is a model without one."""
    return None if perception == 0 else WARNING


def degraded(high: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (C, H, W) brought back to so many rows and columns."""
    return resize(high[None], size)[0]


def residual(low: Tensor, high: Tensor) -> Tensor:
    """How far the result, degraded back, is above each input pixel: (C, h, w).

    Parameters
    ----------
    low, high : float tensors (C, h, w) and (C, H, W)

    Raises
    ------
    PixelError
        If the two do not have the same bands.
    """
    _check(low, high)
    return degraded(high, _size(low)) - low


def added_detail(low: Tensor, high: Tensor) -> Tensor:
    """What the result has beyond a bicubic enlargement of the input: (C, H, W).

    Parameters and errors are those of `residual`.
    """
    _check(low, high)
    return high - resize(low[None], _size(high))[0]


def projected(low: Tensor, high: Tensor) -> Tensor:
    """The picture nearest to the result that is the input when degraded back: (C, H, W).

    Nearest but for 1/250 of the residual at worst, and far less in most pictures. It is found by
    iterated back-projection (Irani and Peleg 1991, doi:10.1016/1049-9652(91)90045-L), hastened by
    Chebyshev's polynomials; the number of steps is fixed, so that a pixel depends on no other than
    those within `PROJECTION_REACH`. It makes the radiometry right, and what was invented no truer.
    Values may leave the range that they were in.

    Parameters and errors are those of `residual`.
    """
    error = -residual(low, high)
    middle, half = (1 + _LEAST_GAIN) / 2, (1 - _LEAST_GAIN) / 2
    ratio = half / middle
    step = error / middle
    change = step
    for _ in range(STEPS - 1):
        error = error - degraded(resize(step[None], _size(high))[0], _size(low))
        before, ratio = ratio, 1 / (2 * middle / half - ratio)
        step = ratio * before * step + 2 * ratio / half * error
        change = change + step
    return high + resize(change[None], _size(high))[0]


def shift(low: Tensor, high: Tensor) -> tuple[float, float] | None:
    """How far the result lies below and right of the input, in input pixels.

    Phase correlation of the mean of all bands (Kuglin and Hines 1975), to a hundredth of a pixel,
    of shifts of up to half a side. None where the picture is too small or too plain to tell.

    Parameters and errors are those of `residual`.
    """
    _check(low, high)
    if min(_size(low)) < _SHIFT_SIDE:
        return None
    here, there = (_windowed(x) for x in (low, degraded(high, _size(low))))
    cross = torch.fft.fft2(there) * torch.fft.fft2(here).conj()
    strength = cross.abs()
    if float(strength.max()) < 1e-12:
        return None
    # both fade towards fine detail, where only rounding is left: phases count as far as they are
    # told; the root lies between plain correlation and pure phases
    cross = cross / (strength + 1e-3 * strength.max()).sqrt()
    peak = int(torch.fft.ifft2(cross).real.argmax())
    whole = [
        (at + side // 2) % side - side // 2
        for at, side in zip(divmod(peak, low.shape[-1]), _size(low), strict=True)
    ]
    return _refined(cross, whole)


def on_larger(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask (C, h, w) as it lies on a picture of so many rows and columns."""
    return F.interpolate(mask[None].float(), size, mode="nearest-exact")[0] > 0


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What is counted of one band.

    Parameters
    ----------
    valid, invalid : input pixels that were compared, and that hold no measurement
    low, back : of the input, and of the result degraded back
    low_low, low_back, error : of squares and products; of the squared residual
    worst : the largest residual
    fine : pixels of the result that belong to valid ones, and
    detail : of the squared added detail over them
    """

    valid: int = 0
    invalid: int = 0
    low: float = 0.0
    back: float = 0.0
    low_low: float = 0.0
    low_back: float = 0.0
    error: float = 0.0
    worst: float = 0.0
    fine: int = 0
    detail: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        mine, theirs = asdict(self), asdict(other)
        both = {name: mine[name] + theirs[name] for name in mine}
        return Sums(**both | {"worst": max(self.worst, other.worst)})

    def figures(self) -> dict[str, Any]:
        """What they come to, in the unit of the pixels; None where there is nothing to tell.

        ``bias`` is how much brighter the result is on average, ``gain`` the slope of the result
        over the input, ``rmse`` and ``worst`` the residual's root mean square and largest value,
        ``added_detail`` that detail's root mean square.
        """
        n = self.valid
        spread = self.low_low - self.low**2 / n if n else 0.0
        # a plain band has no slope; what is left of its spread is the rounding of these sums
        plain = spread <= 1e-12 * self.low_low
        return {
            "valid": n,
            "invalid": self.invalid,
            "bias": (self.back - self.low) / n if n else None,
            "gain": None if plain else (self.low_back - self.low * self.back / n) / spread,
            "rmse": math.sqrt(self.error / n) if n else None,
            "worst": self.worst if n else None,
            "added_detail": math.sqrt(self.detail / self.fine) if self.fine else None,
        }


@dataclass
class Tally:
    """How a result agrees with its input, band by band; it may be counted in parts and merged.

    Parameters
    ----------
    bands : the sums of each; none before the first part
    clipped : numbers of the result that its type could not hold
    """

    bands: Sequence[Sums] = field(default_factory=tuple)
    clipped: int = 0

    def add(
        self,
        low: Tensor,
        high: Tensor,
        *,
        valid: Tensor | None = None,
        inner: Rect | None = None,
        clipped: int = 0,
    ) -> None:
        """Count a picture, or a part of one.

        The result is the same however a picture is cut, if every part comes with `REACH` input
        pixels around what counts of it, or up to the picture's border.

        Parameters
        ----------
        low, high : float tensors (C, h, w) and (C, H, W)
        valid : of bool, (C, h, w), which input pixels hold a measurement; those that are near one
            that does not are not compared
        inner : what counts of `low`; only for whole scales
        clipped : numbers of the result that its type could not hold

        Raises
        ------
        PixelError
            If the bands are not those of the parts before.
        """
        _check(low, high)
        if self.bands and len(self.bands) != len(low):
            raise PixelError(f"a part has {len(low)} bands, and those before {len(self.bands)}")
        compared = torch.ones(low.shape, dtype=torch.bool) if valid is None else valid.cpu()
        scale = high.shape[-2] // low.shape[-2]
        at = inner or (0, low.shape[-2], 0, low.shape[-1])
        now = []
        for x, y, mask in zip(low, high, compared, strict=True):
            now.append(_counted(_wide(x), _wide(y), mask, at, scale if inner else None))
        self.bands = [a + b for a, b in zip(self.bands or [Sums()] * len(now), now, strict=True)]
        self.clipped += clipped

    def merge(self, other: "Tally") -> None:
        """Take in what another one counted.

        Raises
        ------
        PixelError
            If it has other bands.
        """
        if self.bands and other.bands and len(self.bands) != len(other.bands):
            raise PixelError(f"{len(other.bands)} bands cannot join {len(self.bands)}")
        if other.bands:
            mine = self.bands or [Sums()] * len(other.bands)
            self.bands = [a + b for a, b in zip(mine, other.bands, strict=True)]
        self.clipped += other.clipped

    def figures(self) -> dict[str, Any]:
        """What it comes to, in plain values; see `Sums.figures`."""
        return {
            "kernel": KERNEL,
            "clipped": self.clipped,
            "bands": [sums.figures() for sums in self.bands],
        }

    def to_dict(self) -> dict[str, Any]:
        """The tally in plain values, as a receipt holds it."""
        return {"bands": [asdict(sums) for sums in self.bands], "clipped": self.clipped}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Tally":
        """The tally that `to_dict` wrote down."""
        return cls(bands=[Sums(**sums) for sums in facts["bands"]], clipped=facts["clipped"])


def _counted(low: Tensor, high: Tensor, valid: Tensor, inner: Rect, scale: int | None) -> Sums:
    """The sums of one band: (1, h, w) and (1, H, W) in float64, and a mask (h, w)."""
    near = valid if bool(valid.all()) else _eroded(valid)
    back, detail = degraded(high, _size(low)), added_detail(low, high)
    mask = cut(near, inner)
    x, y = (cut(each[0], inner)[mask] for each in (low, back))
    if scale is not None:
        detail = cut(detail, scaled(inner, scale))
    beyond = detail[on_larger(mask[None], _size(detail))]
    return Sums(
        valid=int(mask.sum()),
        invalid=int((~cut(valid, inner)).sum()),
        low=float(x.sum()),
        back=float(y.sum()),
        low_low=float(x.square().sum()),
        low_back=float((x * y).sum()),
        error=float((y - x).square().sum()),
        worst=float((y - x).abs().max()) if len(x) else 0.0,
        fine=beyond.numel(),
        detail=float(beyond.square().sum()),
    )


def _eroded(valid: Tensor) -> Tensor:
    """Which pixels of a mask (h, w) have no invalid one within the reach."""
    bad = (~valid)[None].float()
    return F.max_pool2d(bad, 2 * REACH + 1, stride=1, padding=REACH)[0] == 0


def _windowed(x: Tensor) -> Tensor:
    """The mean of all bands, without its own mean, faded towards the borders: (h, w)."""
    plane = x.double().mean(0)
    down, across = (
        torch.hann_window(side, periodic=False, dtype=torch.double, device=x.device)
        for side in plane.shape
    )
    window = down[:, None] * across
    return (plane - (plane * window).sum() / window.sum()) * window


def _refined(cross: Tensor, whole: Sequence[int]) -> tuple[float, float]:
    """The peak of a correlation within a pixel of a whole one, by its own Fourier series.

    Guizar-Sicairos et al. 2008, doi:10.1364/OL.33.000156.
    """
    fine = torch.arange(-_SHIFT_STEPS, _SHIFT_STEPS + 1, dtype=torch.double) / _SHIFT_STEPS
    places = [at + fine for at in whole]
    waves = [
        torch.exp(2j * math.pi * place[:, None] * torch.fft.fftfreq(side, dtype=torch.double))
        for place, side in zip(places, cross.shape, strict=True)
    ]
    cross = cross.cpu()
    peak = int((waves[0] @ cross @ waves[1].mT).real.argmax())
    row, column = divmod(peak, len(fine))
    return float(places[0][row]), float(places[1][column])


def _wide(plane: Tensor) -> Tensor:
    """One band, (1, H, W), in float64: sums over millions of pixels must not depend on the cut."""
    return plane[None].to("cpu", torch.float64)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _check(low: Tensor, high: Tensor) -> None:
    floats = low.is_floating_point() and high.is_floating_point()
    if not floats or low.ndim != 3 or high.ndim != 3 or len(low) != len(high):
        raise PixelError(
            f"an input (C, h, w) and a result (C, H, W) are compared, both float, not"
            f" {low.dtype} {tuple(low.shape)} and {high.dtype} {tuple(high.shape)}"
        )
