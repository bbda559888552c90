"""A still picture in memory: its pixels, and what its file says about them."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from srpipe.errors import ConfigError, MediaError
from srpipe.io import FORMATS, exif
from srpipe.io.frames import Frame
from srpipe.pixels import Layout

PREMULTIPLIED = 1
"""What TIFF calls opacity that the colours are already multiplied by, in its ExtraSamples tag."""

PIXELS_MAX = 178_956_970
"""Larger pictures are refused as decompression bombs: Pillow's own bound, 13 377 px square."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a picture's file says beside its pixels, in the form that all formats share.

    Parameters
    ----------
    icc : colour profile
    exif : EXIF from its byte order mark on, orientation included (pixels are never turned)
    xmp : XMP packet
    density : pixels per inch, vertical and horizontal; where `inches` is false, per a unit that
        the file does not name, so that only their ratio counts
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    density: tuple[float, float] | None = None
    inches: bool = True

    @property
    def turned(self) -> bool:
        """Whether the picture is shown with its sides exchanged."""
        return bool(self.exif) and exif.is_turned(self.exif or b"")

    @property
    def complete(self) -> "Metadata":
        """The same, with the density that EXIF alone tells of."""
        told = exif.density(self.exif) if self.exif and not self.density else None
        return replace(self, density=told[0], inches=told[1]) if told else self

    def enlarged(self, high: Fraction, wide: Fraction) -> "Metadata":
        """The same, for a picture with so many times the rows and columns on the same paper."""
        return Metadata(
            icc=self.icc,
            exif=self.exif and exif.enlarged(self.exif, high, wide),
            xmp=self.xmp and exif.enlarged_xmp(self.xmp, high, wide),
            density=self.density and (self.density[0] * float(high), self.density[1] * float(wide)),
            inches=self.inches,
        )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A frame with the metadata and the habits of its file.

    Parameters
    ----------
    frame : pixels (H, W, C)
    metadata : what every format can say
    format : a name in `FORMATS`
    lossless : whether the file gives back exactly the pixels that were put in
    own : what only this format knows, as its reader leaves it for its writer
    notices : what a user should know about reading it
    quality : of a JPEG, as libjpeg counts it, estimated; None of others
    """

    frame: Frame
    metadata: Metadata
    format: str
    lossless: bool = True
    own: dict[str, Any] | None = None
    notices: tuple[str, ...] = ()
    quality: float | None = None

    def enlarged(self, frame: Frame) -> "Picture":
        """The same picture with other pixels, more of them on the same paper."""
        high = Fraction(frame.height, self.frame.height)
        wide = Fraction(frame.width, self.frame.width)
        return replace(self, frame=frame, metadata=self.metadata.enlarged(high, wide), notices=())

    def converted(self, name: str) -> "Picture":
        """The same picture on its way into another format; its pixels follow `layout_in`."""
        if name == self.format:
            return self
        if self.own and self.own.get("alpha") == PREMULTIPLIED:
            raise ConfigError(
                f"colours that are multiplied by their opacity go into TIFF only, not into"
                f" {name.upper()}; change the output's name"
            )
        lossless = name in ("png", "tiff") or (name == "webp" and self.lossless)
        return replace(self, format=name, lossless=lossless, own=None)


def layout_in(layout: Layout, name: str) -> Layout:
    """How a format holds pixels that are laid out like this: as they are, or as near as it can.

    Raises
    ------
    ConfigError
        If the format has no room for their opacity.
    """
    known = FORMATS[name]
    if layout.alpha and not known.alpha:
        raise ConfigError(f"{name.upper()} cannot hold opacity; write PNG, WebP or TIFF")
    bits = layout.bits if layout.bits in known.bits else max(known.bits)
    family = layout.family if known.gray else "rgb"
    return replace(layout, bits=bits, family=family)


def frame_of(pixels: np.ndarray) -> Frame:
    """Pixels (H, W) or (H, W, 1 to 4) as a frame: one and two channels are grey, alpha is last."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = planes.shape[2]
    layout = Layout(
        family="gray" if channels < 3 else "rgb",
        bits=8 * planes.dtype.itemsize,
        alpha=channels in (2, 4),
    )
    return Frame(planes=(planes,), layout=layout)


def check_size(height: int, width: int, path: object) -> None:
    """Refuse what no memory holds once it is enlarged, before it is decoded."""
    if height * width > PIXELS_MAX:
        raise MediaError(
            f"{path} unpacks to {width} x {height} px, more than the {PIXELS_MAX // 10**6} million"
            " that a picture may have; cut it into pieces"
        )
