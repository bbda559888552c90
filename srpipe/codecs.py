"""What lossy codecs leave of pictures, for measuring and for training."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from srpipe import color
from srpipe.errors import PixelError
from srpipe.io import video_formats
from srpipe.io.frames import Frame
from srpipe.io.video_encoder import Encoding, started
from srpipe.pixels import Layout, from_unit, rounded, to_unit

RATE = 25
"""Frames per second that x264 is told; a constant rate factor is for these."""

FORMAT = "yuv420p"
LAYOUT = Layout(family="yuv", sub_y=2, sub_x=2, full_range=False, matrix=6)


def jpeg(frames: Iterable[Tensor], quality: int) -> Iterator[Tensor]:
    """Pictures after JPEG of a quality, 1 to 95, with chroma at half the resolution.

    Parameters
    ----------
    frames : Tensors of shape (1, 3, H, W), float, in [0, 1]; the results are alike, in 8 bits
    """
    for frame in frames:
        file = io.BytesIO()
        pixels = from_unit(frame, 8)[0].permute(1, 2, 0).cpu().numpy()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(file) as opened:
            found = torch.from_numpy(np.array(opened))
        yield to_unit(found, 8).permute(2, 0, 1)[None].to(frame.device)


def h264(frames: Iterable[Tensor], factor: int) -> Iterator[Tensor]:
    """Frames of a video after x264 with a constant rate factor, 1 to 51, 4:2:0 in 8 bits.

    Parameters
    ----------
    frames : Tensors of shape (1, 3, H, W), float, in [0, 1], of one size; the results are alike,
        in 8 bits, and come as late as an encoder needs to look ahead

    Raises
    ------
    PixelError
        If a frame is of another size than the first.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    height, width = first.shape[-2:]
    decoder, planes = av.CodecContext.create("h264", "r"), video_formats.Planes("h264")
    decoder.thread_count = 1
    for packet in _packets(_encoder(height, width, factor), chain([first], frames), first.shape):
        for found in decoder.decode(packet):
            rgb = color.rgb_of(planes.taken(found)[0], LAYOUT)[..., :height, :width]
            yield rounded(rgb.clamp(0, 1), 8).to(first.device)


def _packets(
    encoder: av.VideoCodecContext, frames: Iterable[Tensor], shape: torch.Size
) -> Iterator[av.Packet | None]:
    """All packets, and None, by which a decoder knows the end."""
    for number, frame in enumerate(frames):
        if frame.shape != shape:
            raise PixelError(
                f"frame {number + 1} is {frame.shape[-1]} x {frame.shape[-2]} px and those before"
                " it are not; a video is encoded at one size"
            )
        yield from encoder.encode(_frame(frame, number))
    yield from encoder.encode()
    yield None


def _encoder(height: int, width: int, factor: int) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, RATE)
    encoder.thread_count = 1
    options = {"crf": str(factor), "preset": "medium"}
    started(encoder, Encoding(codec="libx264", pix_fmt=FORMAT, layout=LAYOUT, options=options), {})
    return encoder


def _frame(picture: Tensor, number: int) -> av.VideoFrame:
    """In YUV, with even sides."""
    height, width = picture.shape[-2:]
    even = F.pad(picture, (0, width % 2, 0, height % 2), mode="replicate")
    planes = tuple(plane.cpu().numpy() for plane in color.from_rgb(even, LAYOUT))
    made = video_formats.picture(Frame(planes=planes, layout=LAYOUT), FORMAT)
    made.pts = number
    return made
