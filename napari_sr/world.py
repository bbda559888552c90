"""Where an enlarged part of a layer lies: numbers in, numbers out, nothing of napari.

In napari a whole number is the centre of a pixel, and its corner lies half a pixel before it. So
that both corners of a result lie on those of its input, its first centre must move.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Place:
    """From data to the physical space of a layer, ``rotate @ shear @ diag(scale)``, then moved.

    Parameters
    ----------
    scale, translate : arrays (n,)
    rotate : array (n, n)
    shear : array (n, n), or the numbers above its diagonal, row by row
    """

    scale: np.ndarray
    translate: np.ndarray
    rotate: np.ndarray
    shear: np.ndarray

    @property
    def linear(self) -> np.ndarray:
        """What one step along each axis of the data is in space: array (n, n)."""
        shear = np.asarray(self.shear, np.float64)
        if shear.ndim == 1:
            matrix = np.eye(len(self.scale))
            matrix[np.triu_indices(len(self.scale), 1)] = shear
            shear = matrix
        return np.asarray(self.rotate) @ shear @ np.diag(self.scale)

    def part(self, start: Sequence[int], factors: Sequence[float]) -> "Place":
        """The place of a part of the data that was made finer, so that its corners stay.

        Parameters
        ----------
        start : index of the part's first pixel
        factors : along each axis, how many new pixels a pixel became; below 1 fewer
        """
        step = 1 / np.asarray(factors, np.float64)
        first = np.asarray(start, np.float64) + (step - 1) / 2  # the centre of the first new pixel
        return Place(
            scale=np.asarray(self.scale) * step,
            translate=np.asarray(self.translate) + self.linear @ first,
            rotate=self.rotate,
            shear=self.shear,
        )
