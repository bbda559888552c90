"""The eight ways to lay a picture, and the mean of what becomes of each.

A network should make the same of a picture however it lies, and does not quite. The mean over all
eight is closer to the truth (Timofte et al. 2016, doi:10.1109/CVPR.2016.206), and how far they lie
apart says where the network is not sure.
"""

import torch
from torch import Tensor

TURNS = range(8)
"""The flips and rotations of a square; 0 leaves all as it is."""


def turned(x: Tensor, turn: int) -> Tensor:
    """A picture, (..., H, W), laid in one of the eight ways."""
    return _flipped(x.mT if turn & 4 else x, turn)


def returned(x: Tensor, turn: int) -> Tensor:
    """The picture of which `turned` made this one."""
    x = _flipped(x, turn)
    return x.mT if turn & 4 else x


class Mean:
    """The mean of pictures that come one by one, and how they differ.

    Works in the first of them, and plane by plane: no more memory than that.

    Parameters
    ----------
    spread : whether the standard deviation is wanted too, which takes as much memory again
    """

    def __init__(self, first: Tensor, *, spread: bool) -> None:
        self.mean = first
        self._squares = torch.zeros_like(first) if spread else None
        self._count = 1

    def add(self, x: Tensor, turn: int) -> None:
        """Take in what became of the picture laid in this way."""
        self._count += 1
        for image in range(len(x)):
            for channel in range(x.shape[1]):
                plane = returned(x[image, channel], turn).to(self.mean.device)
                self._add(plane, (image, channel))

    @property
    def spread(self) -> Tensor:
        """The standard deviation of each number over all pictures."""
        assert self._squares is not None
        return (self._squares / self._count).sqrt_()

    def _add(self, plane: Tensor, at: tuple[int, int]) -> None:
        """Welford 1962, doi:10.2307/1266577."""
        change = plane - self.mean[at]
        self.mean[at].add_(change, alpha=1 / self._count)
        if self._squares is not None:
            self._squares[at].addcmul_(change, change, value=1 - 1 / self._count)


def _flipped(x: Tensor, turn: int) -> Tensor:
    axes = [axis for bit, axis in ((1, -2), (2, -1)) if turn & bit]
    return x.flip(axes) if axes else x
