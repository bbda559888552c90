"""The only place where dtypes and value ranges change.

An integer type's range is its declared one: a uint16 frame with a maximum of 200 is a dark
frame, never an 8-bit one. Nothing here looks at the values to guess a range; `percentile_range`
does so for those who ask for it, and `extreme_range` where float32 could not tell the numbers of
the declared range apart (32 bits or more), once for all of an image or stack.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from srpipe.errors import PixelError

Family = Literal["rgb", "gray", "yuv"]
ChromaSite = Literal["left", "center", "topleft"]

UNSPECIFIED = 2
"""The code point that ITU-T H.273 gives to a colour property nobody stated."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the numbers of a frame are to be read.

    Parameters
    ----------
    family : "rgb" and "gray" frames are one array (H, W, C), alpha last; "yuv" frames are arrays
        Y (H, W), U and V (ceil(H / sub_y), ceil(W / sub_x)), and alpha (H, W) where there is one
    bits : significant bits, 8 to 16; stored in uint8 for 8 and in uint16 above, low-aligned;
        32 for float32, which knows no range limits
    alpha : whether the last channel or plane is opacity, always full range
    straight : whether colours are known not to be multiplied by it, so that 0 hides them
    sub_y, sub_x : luma rows and columns per chroma sample
    full_range : whether black and white are 0 and 2**bits - 1 rather than 16 and 235 (scaled)
    matrix, primaries, transfer : ITU-T H.273 code points; 2 is "unspecified"
    chroma_site : where a chroma sample sits among its luma samples
    """

    family: Family
    bits: int = 8
    alpha: bool = False
    straight: bool = True
    sub_y: int = 1
    sub_x: int = 1
    full_range: bool = True
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    chroma_site: ChromaSite = "left"

    @property
    def dtype(self) -> np.dtype:
        """The NumPy type that holds a sample of this many bits."""
        if self.bits == 32:
            return np.dtype(np.float32)
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


def to_unit(array: Tensor, bits: int) -> Tensor:
    """Full-range samples of ``bits`` bits as float32, 0 to 1; float samples (32) as they are.

    Raises
    ------
    PixelError
        If the tensor's type is not the one that holds this many bits.
    """
    _check(array.dtype, bits)
    if bits == 32:
        return array
    return array.to(torch.float32) / (2**bits - 1)


def from_unit(unit: Tensor, bits: int) -> Tensor:
    """The inverse of `to_unit`: clamped and rounded to nearest; float (32) is neither."""
    if bits == 32:
        return unit.to(torch.float32)
    levels = 2**bits - 1
    return (unit.to(torch.float32).clamp(0, 1) * levels).round_().to(sample_type(bits))


def rounded(unit: Tensor, bits: int) -> Tensor:
    """Values as samples of ``bits`` bits give them back: clamped, and on the nearest level."""
    return to_unit(from_unit(unit, bits), bits)


def sample_type(bits: int) -> torch.dtype:
    """The tensor type that holds a sample of this many bits: uint8, uint16 or float32."""
    if bits == 32:
        return torch.float32
    if not 8 <= bits <= 16:
        raise PixelError(
            f"samples of {bits} bits are not handled; convert to 8 to 16 bits or float32"
        )
    return torch.uint8 if bits == 8 else torch.uint16


@dataclass(frozen=True)
class Range:
    """The two numbers that are 0 and 1 to a network, for all of a raster or stack.

    Others are below 0 or above 1 to it; none is clamped on the way there.

    Raises
    ------
    PixelError
        If the first is not below the second, by a number that float32 holds in full.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not _LEAST <= float(self.high) - float(self.low) <= _MOST:
            raise PixelError(
                f"a range from {self.low:g} to {self.high:g} has no room; give a smaller number"
                " first and a larger one after it"
            )

    @property
    def coarse(self) -> bool:
        """Whether there are whole numbers in it that are the same one to float32."""
        return self.high - self.low > _WHOLE_IN_FLOAT32

    def to_unit(self, array: np.ndarray) -> Tensor:
        """Numbers of any real type as float32.

        Raises
        ------
        PixelError
            If that cannot hold one of them.
        """
        unit = (array.astype(np.float64) - self.low) / (self.high - self.low)
        if unit.max(initial=0) > _MOST or unit.min(initial=0) < -_MOST:
            raise PixelError(
                "the image holds numbers beyond what float32 can hold; divide them first, or give"
                " a wider range"
            )
        return torch.from_numpy(unit.astype(np.float32))

    def from_unit(
        self, unit: Tensor, dtype: np.dtype, bits: int | None = None
    ) -> tuple[np.ndarray, int]:
        """The inverse of `to_unit`, and how many numbers the type could not hold.

        Numbers beyond the range are held, too, up to the limits of the type, which stand for what
        lies beyond those. An integer type rounds to nearest.

        Parameters
        ----------
        bits : of an unsigned type that are in use, as `declared_range` has them
        """
        values = unit.detach().cpu().numpy().astype(np.float64)
        values = values * (self.high - self.low) + self.low
        if dtype.kind == "f":
            high = float(np.finfo(dtype).max)
            clipped = int(np.count_nonzero(np.abs(values) > high))
            return values.clip(-high, high).astype(dtype), clipped
        values = np.rint(values)
        most = _most(dtype, bits)
        low, high = float(np.iinfo(dtype).min), float(most)
        high = high if int(high) == most else float(np.nextafter(high, 0))  # 64 bits
        clipped = int(np.count_nonzero(~((values >= low) & (values <= high))))
        return np.nan_to_num(values, nan=low).clip(low, high).astype(dtype), clipped


def declared_range(dtype: np.dtype, bits: int | None = None) -> Range:
    """What a type says of itself: all an integer type can hold, and 0 to 1 for floats.

    Parameters
    ----------
    bits : of an unsigned type that are in use, where the file says that not all are
    """
    if dtype.kind == "f":
        return Range(0.0, 1.0)
    return Range(float(np.iinfo(dtype).min), float(_most(dtype, bits)))


def percentile_range(arrays: Iterable[np.ndarray], low: float, high: float) -> Range:
    """Two percentiles of valid numbers that come in pieces; 0 and 100 are the true extremes.

    In between they are those of an even sample of at most 2**20 numbers.

    Raises
    ------
    PixelError
        If there are no numbers, or all are the same.
    """
    kept, step, skip = [np.empty(0)], 1, 0
    extremes = np.array([np.inf, -np.inf])
    for array in arrays:
        flat = array.reshape(-1).astype(np.float64)
        extremes = np.array([flat.min(initial=extremes[0]), flat.max(initial=extremes[1])])
        kept.append(flat[skip::step])
        skip = (skip - flat.size) % step
        while sum(part.size for part in kept) > _SAMPLE:
            together = np.concatenate(kept)
            skip += step * (together.size % 2)
            kept, step = [together[::2]], 2 * step
    sample = np.concatenate(kept)
    if not sample.size:
        raise PixelError("no valid number to take percentiles of; give --range instead")
    ends = np.percentile(sample, [low, high])
    ends = np.where([low <= 0, high >= 100], extremes, ends)
    return Range(float(ends[0]), float(ends[1]))


def extreme_range(arrays: Iterable[np.ndarray]) -> Range:
    """The least and the largest of valid whole numbers that come in pieces.

    Where all are the same it reaches to the next one, so that there is room; it is 0 to 1 if there
    are none.
    """
    ends = [(float(a.min()), float(a.max())) for a in arrays if a.size] or [(0.0, 0.0)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return Range(low, max(high, low + 1, float(np.nextafter(low, np.inf))))


_SAMPLE = 2**20
_WHOLE_IN_FLOAT32 = 2**24  # up to there it holds every whole number
_LEAST, _MOST = (float(end) for end in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


def _most(dtype: np.dtype, bits: int | None) -> int:
    """The largest number of an integer type, or of the bits of it that are in use."""
    limits = np.iinfo(dtype)
    return min(2**bits - 1, limits.max) if bits and not limits.min else limits.max


def _check(dtype: torch.dtype, bits: int) -> None:
    if dtype != sample_type(bits):
        raise PixelError(f"{bits}-bit samples are held in {sample_type(bits)}, not in {dtype}")
