"""The only place where dtypes and value ranges change.

An integer type's range is its declared one: a uint16 frame with a maximum of 200 is a dark
frame, never an 8-bit one. Nothing here looks at the values to guess a range.
"""

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
    sub_y, sub_x : luma rows and columns per chroma sample
    full_range : whether black and white are 0 and 2**bits - 1 rather than 16 and 235 (scaled)
    matrix, primaries, transfer : ITU-T H.273 code points; 2 is "unspecified"
    chroma_site : where a chroma sample sits among its luma samples
    """

    family: Family
    bits: int = 8
    alpha: bool = False
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


def sample_type(bits: int) -> torch.dtype:
    """The tensor type that holds a sample of this many bits: uint8, uint16 or float32."""
    if bits == 32:
        return torch.float32
    if not 8 <= bits <= 16:
        raise PixelError(
            f"samples of {bits} bits are not handled; convert to 8 to 16 bits or float32"
        )
    return torch.uint8 if bits == 8 else torch.uint16


def _check(dtype: torch.dtype, bits: int) -> None:
    if dtype != sample_type(bits):
        raise PixelError(f"{bits}-bit samples are held in {sample_type(bits)}, not in {dtype}")
