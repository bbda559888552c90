"""Statistics of the whole that the frames of a shot share, where frames are computed in tiles.

They are taken from the first frame of every cell (see `srpipe.io.video_pieces`) and of every shot,
so that they do not depend on where the work is cut, hold the picture steady, and cost next to
nothing.
"""

import threading

import torch.nn.functional as F
from torch import Tensor

from srpipe.infer import Upscaler
from srpipe.models.pooling import Statistics
from srpipe.resample import resize

CUT = 0.1
"""Mean difference of two frames, in [0, 1], from which on another shot has begun."""

_THUMBNAIL = 16, 16


class Shots:
    """Gives each frame the statistics of its shot."""

    def __init__(self, upscaler: Upscaler, cancelled: threading.Event) -> None:
        self._upscaler, self._cancelled = upscaler, cancelled
        self._before: Tensor | None = None
        self._statistics: Statistics | None = None

    @property
    def matter(self) -> bool:
        """Whether the network looks at the whole at all."""
        return self._upscaler.looks_at_the_whole

    def begin(self) -> None:
        """Take new statistics from the next frame, whatever it shows."""
        self._before = None

    def __call__(self, rgb: Tensor) -> Statistics | None:
        """For a frame (1, 3, H, W); None where it is enough that the network sees the frame."""
        if not self.matter:
            return None
        now, before = _thumbnail(rgb), self._before
        if before is None or (now - before).abs().mean() > CUT:
            self._statistics = self._upscaler.statistics(rgb, cancelled=self._cancelled.is_set)
        self._before = now
        return self._statistics


def _thumbnail(rgb: Tensor) -> Tensor:
    """A frame (1, 3, H, W) in a few pixels.

    Most of the way by plain means: CUDA's bicubic kernel keeps all its weights in shared memory,
    which does not hold those of so small a picture of 1280 x 720 px.
    """
    down, across = (max(n // few, 1) for n, few in zip(rgb.shape[-2:], _THUMBNAIL, strict=True))
    means = F.avg_pool2d(F.avg_pool2d(rgb, (down, 1)), (1, across))
    return resize(means, _THUMBNAIL)
