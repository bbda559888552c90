"""The numbers of a layer as planes of bands, read window by window; lazy ones stay lazy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from srpipe.errors import PixelError
from srpipe.windows import Span

_COLOURS = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


@dataclass(frozen=True)
class Stack:
    """An array (..., Y, X), or (..., Y, X, C) where pixels are colours.

    Parameters
    ----------
    data : NumPy's, Dask's, Zarr's or any other that is indexed like them; the finest of its levels
    rgb : whether the last axis is red, green, blue and maybe opacity

    Raises
    ------
    PixelError
        If its numbers have no order.
    """

    data: Any
    rgb: bool

    def __post_init__(self) -> None:
        if np.dtype(self.data.dtype).kind not in "uif":
            raise PixelError(
                f"the layer holds {self.data.dtype}, not plain numbers; convert it first"
            )

    @classmethod
    def of(cls, data: Any, *, rgb: bool, multiscale: bool) -> "Stack":
        """What a layer holds, at its finest level."""
        return cls(data[0] if multiscale else data, rgb)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many along each axis but that of the colours; rows and columns are last."""
        shape = tuple(int(n) for n in self.data.shape)
        return shape[:-1] if self.rgb else shape

    @property
    def dtype(self) -> np.dtype:
        """Of its numbers."""
        return np.dtype(self.data.dtype)

    @property
    def colours(self) -> tuple[str, ...]:
        """What each band is."""
        return _COLOURS[int(self.data.shape[-1]) if self.rgb else 1]

    @property
    def is_lazy(self) -> bool:
        """Whether it is somewhere else than in memory."""
        return not isinstance(self.data, np.ndarray)

    def read(self, plane: Sequence[int], y: Span, x: Span) -> np.ndarray:
        """A window of a plane: array (C, H, W)."""
        part = np.asarray(self.data[(*plane, slice(*y), slice(*x))])
        return np.moveaxis(part, -1, 0) if self.rgb else part[None]


def shown(bands: np.ndarray, *, rgb: bool) -> np.ndarray:
    """Bands (C, H, W) as a layer has them: (H, W), or (H, W, C)."""
    return np.moveaxis(bands, 0, -1) if rgb else bands[0]
