"""One frame in, one larger frame out: what stands between a source and a sink."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from srpipe.color import from_rgb, rgb_of
from srpipe.device import where_room_is
from srpipe.infer import Upscaler
from srpipe.io.frames import Frame
from srpipe.jobs.opacity import hidden_again, visible
from srpipe.models.pooling import Statistics
from srpipe.pixels import Layout
from srpipe.resample import resize
from srpipe.trust import projected


class Enlarger:
    """Make larger frames of frames.

    Parameters
    ----------
    layout : how the result is to be laid out
    size : height and width of the result; a frame of another size than the first one, which some
        videos have, is brought to it
    statistics : of the whole that a frame (1, 3, H, W) is to be seen as a part of, where it is
    project : whether the result is made to be its input again when degraded back
    count : whether samples are counted that are beyond what the layout can hold
    on_tile : told how many tiles of how many are done
    """

    def __init__(
        self,
        upscaler: Upscaler,
        layout: Layout,
        size: tuple[int, int],
        *,
        cancelled: threading.Event,
        statistics: Callable[[Tensor], Statistics | None] | None = None,
        project: bool = False,
        count: bool = False,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> None:
        self._upscaler = upscaler
        self._layout = layout
        self._size = size
        self._cancelled = cancelled
        self._statistics = statistics
        self._project = project
        self._count = count and layout.bits < 32  # float holds all
        self._on_tile = on_tile
        self.clipped = 0
        """Samples of red, green and blue that came out darker than black or brighter than white."""

    def __call__(self, frame: Frame, made: Tensor | None = None) -> Frame:
        """The frame, enlarged, at the same time; `made` is what `together` made of it already.

        Nothing is clamped before the network: codes beyond black and white, which video may hold,
        then come out beyond black and white again. `from_rgb` clamps to what codes can say.
        """
        picture = _picture(frame, self._upscaler)
        seen = _visible(picture, frame) if self._layout.alpha else picture[:, :3]
        if made is None:
            made = self._upscaler(
                seen,
                statistics=self._statistics(seen) if self._statistics else None,
                cancelled=self._cancelled.is_set,
                on_tile=self._on_tile,
            )
        enlarged = made
        with torch.no_grad():
            planes, clipped = where_room_is(
                made.device,
                lambda device: self._laid_out(
                    frame, *(x.to(device) for x in (picture, seen, enlarged))
                ),
            )
        self.clipped += clipped
        return Frame(
            planes=planes,
            layout=self._layout,
            pts=frame.pts,
            duration=frame.duration,
            time_base=frame.time_base,
        )

    def _laid_out(
        self, frame: Frame, picture: Tensor, seen: Tensor, made: Tensor
    ) -> tuple[tuple[np.ndarray, ...], int]:
        """The planes of what the network made of a picture, and how many samples are clipped.

        `seen` are the picture's colours as the network saw them.
        """
        rgb, clipped = self._fitted(made), 0
        if self._project:
            rgb = projected(seen[0], rgb[0])[None]
        if self._layout.alpha and frame.layout.alpha:
            alpha = self._fitted(picture[:, 3:])
            rgb = torch.cat([hidden_again(rgb, alpha, picture, self._layout), alpha], dim=1)
        if self._count:
            level = 0.5 / (2**self._layout.bits - 1)  # less than that is rounding
            colours = rgb[:, :3]
            clipped = int(((colours < -level) | (colours > 1 + level)).sum())
        planes = from_rgb(rgb, self._layout)
        return tuple(plane.cpu().numpy() for plane in planes), clipped

    def _fitted(self, x: Tensor) -> Tensor:
        return x if tuple(x.shape[-2:]) == self._size else resize(x, self._size)


def together(
    frames: Sequence[Frame], upscaler: Upscaler, cancelled: threading.Event
) -> list[Tensor]:
    """What the network makes of frames of one size by one call, for an `Enlarger` to go on with."""
    seen = torch.cat([_visible(_picture(frame, upscaler), frame) for frame in frames])
    return list(upscaler(seen, cancelled=cancelled.is_set).split(1))


def _picture(frame: Frame, upscaler: Upscaler) -> Tensor:
    """RGB or RGBA, (1, 3 or 4, H, W), where the network is, if there is room."""
    return where_room_is(upscaler.device, lambda device: rgb_of(frame.planes, frame.layout, device))


def _visible(picture: Tensor, frame: Frame) -> Tensor:
    """Its colours for the network, where the picture is, if there is room."""
    return where_room_is(picture.device, lambda device: visible(picture.to(device), frame.layout))
