"""How strongly a video was compressed, as far as its decoder tells."""

import struct
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


def quantiser(source: VideoSource) -> float | None:
    """H.264's quantiser, 0 to 51: the median over some frames of the mean over each.

    At more than 8 bits libav counts 6 more for each further bit (ITU-T H.264, QpBdOffset), which
    are taken off. None of other codecs, and where nothing can be decoded.
    """
    if source.codec != "h264":
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
    return median(known) - 6 * (source.layout.bits - 8) if known else None


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
