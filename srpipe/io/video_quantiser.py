"""How strongly a video was compressed, as far as its decoder tells."""

import struct
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

from srpipe.errors import MediaError
from srpipe.io.video_source import VideoSource, sides

FRAMES = 12
"""How many are looked at, from the middle on: a video often begins black."""


@dataclass(frozen=True)
class Scale:
    """On which a family of codecs counts its quantiser.

    Parameters
    ----------
    least, most : of the quantiser
    step : of libav's number for it; its decoders of the MPEG family give twice the quantiser
    """

    name: str
    least: int
    most: int
    step: int = 1


MPEG = Scale("MPEG", 1, 31, 2)
H264 = Scale("H.264", 0, 51)
VP9 = Scale("VP9", 0, 255)

SCALES = {
    **dict.fromkeys(("mpeg1video", "mpeg2video", "mpeg4", "h263", "flv"), MPEG),
    **dict.fromkeys(("msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"), MPEG),
    "h264": H264,
    "vp9": VP9,
}
"""By decoder, as libav names it; others tell nothing."""


@dataclass(frozen=True)
class Quantiser:
    """How coarsely a video was quantised: the median over some frames of the mean over each."""

    value: float
    scale: Scale


def quantiser(source: VideoSource) -> Quantiser | None:
    """What the decoder tells of some frames of a video; None where it does not, or there are none.

    At more than 8 bits libav counts 6 more for each further bit of H.264 (ITU-T H.264, QpBdOffset),
    which are taken off.
    """
    scale = SCALES.get(source.codec)
    if scale is None:
        return None
    try:
        with source.opened() as container:
            stream: Any = container.streams[source.index]
            stream.codec_context.options = {"export_side_data": "venc_params"}
            if source.duration_s and source.count != 1:
                container.seek(int((source.start_s + source.duration_s / 2) * av.time_base))
            found = [_mean(frame) for frame in islice(container.decode(stream), FRAMES)]
    except (av.FFmpegError, MediaError):
        return None
    known = [each for each in found if each is not None]
    if not known:
        return None
    further = 6 * (source.layout.bits - 8) if scale is H264 else 0
    return Quantiser(median(known) / scale.step - further, scale)


def _mean(frame: av.VideoFrame) -> float | None:
    """Over the blocks of libav's AVVideoEncParams, each of which says by how much it differs."""
    data = sides(frame).get(SideData.VIDEO_ENC_PARAMS)
    if data is None:
        return None
    count, start, step, _kind, base = struct.unpack_from("@INNii", data)
    if not count:
        return float(base)
    differences = np.ndarray(count, np.int32, data, start + 4 * 4, step)  # after x, y, w, h
    return base + float(differences.mean())
