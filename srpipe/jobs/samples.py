"""Samples of a finished result and of its input, from the files as they are."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

import numpy as np
import torch

from srpipe.blocks import Numbers
from srpipe.color import rgb_of
from srpipe.errors import PixelError
from srpipe.io.frames import Frame
from srpipe.io.raster import RasterSource, Window
from srpipe.io.video import VideoSource
from srpipe.io.video_index import Index, Reader, Unlisted, by_frames, by_packets, lead
from srpipe.jobs.trusted import Disagreement, Findings, Sample
from srpipe.trust import Tally

PAIRS = 8
"""Pairs of successive frames that are looked at in a video."""

WINDOWS = 3
"""Windows that are looked at in a raster, along each side; and planes."""

WINDOW_SIDE = 256
"""Of such a window, in input pixels."""

_SHOWN = 1, 99  # percentiles of a window's numbers that are shown as black and white


def of_frames(
    low: Frame, high: Frame, *, clipped: int, disagreement: Disagreement | None
) -> Findings:
    """What is found in a picture, whole."""
    findings = Findings(disagreement=disagreement)
    findings.add(_sample("", low, high))
    findings.tally.clipped = clipped
    return findings


def of_video(
    source: VideoSource,
    index: Index,
    result: VideoSource,
    *,
    disagreement: Disagreement | None,
    look: Callable[[], None],
) -> Findings:
    """What is found in pairs of frames from all over a video.

    Parameters
    ----------
    index : of the source
    look : called before each frame, and may raise to stop
    """
    promised = by_packets(result)
    if promised is not None:
        with suppress(Unlisted):
            return _watched(source, index, result, promised, Findings(disagreement=disagreement))
    counted = by_frames(result, look)
    return _watched(source, index, result, counted, Findings(disagreement=disagreement))


def of_raster(
    source: RasterSource,
    result: RasterSource,
    numbers: Numbers,
    tally: Tally,
    *,
    disagreement: Disagreement | None,
    look: Callable[[], None],
) -> Findings:
    """What is found in windows from all over a raster.

    Parameters
    ----------
    tally : of all of it
    look : called before each window, and may raise to stop
    """
    about, scale = source.raster, result.raster.shape[-1] // source.raster.shape[-1]
    ask = None if disagreement is None else _in_numbers(disagreement, numbers)
    names = [band.name or f"band {number + 1}" for number, band in enumerate(about.bands)]
    findings = Findings(unit="in the numbers of the file", names=names, disagreement=ask)
    findings.tally = tally
    bands = list(next((g for g in numbers.groups if len(g) == len("RGB")), numbers.groups[0]))
    for window in _windows(about.shape):
        look()
        before, after = source.read(window), result.read(window.enlarged(scale))
        low, high = (np.ascontiguousarray(x.pixels[0, bands, 0]) for x in (before, after))
        valid = None if before.valid is None else before.valid[0, bands, 0]
        known = low if valid is None else low[valid]
        if not known.size:
            continue
        black, white = np.percentile(known, _SHOWN)
        sample = Sample(
            name=_place_of(window, about.shape),
            low=torch.from_numpy(low.astype(np.float64)),
            high=torch.from_numpy(high.astype(np.float64)),
            valid=None if valid is None else torch.from_numpy(valid.copy()),
            black=float(black),
            white=float(white if white > black else black + 1),
            top=window.y[0] * scale,
            left=window.x[0] * scale,
        )
        findings.add(sample, counted=False)
    return findings


def _sample(name: str, low: Frame, high: Frame) -> Sample:
    """Two frames as a sample, in grey where both are; colours that nobody sees do not count."""
    bands = 1 if low.layout.family == high.layout.family == "gray" else 3
    before, after = (rgb_of(frame.planes, frame.layout)[0] for frame in (low, high))
    seen = before[3:] > 0
    hides = low.layout.alpha and low.layout.straight and not seen.all()
    return Sample(
        name=name,
        low=before[:bands],
        high=after[:bands],
        valid=seen.expand(bands, -1, -1) if hides else None,
    )


def _watched(
    source: VideoSource, index: Index, result: VideoSource, there: Index, findings: Findings
) -> Findings:
    with closing(Reader(source)) as before, closing(Reader(result)) as after:
        for first in _spread_over(len(index.times)):
            findings.flicker.forget()
            pairs = zip(
                _frames(before, index, first, lead(source)),
                _frames(after, there, first, 0),
                strict=True,
            )
            for number, (low, high) in enumerate(pairs):
                sample = _sample(f"frame {first + number + 1}", low, high)
                if not number:
                    findings.add(sample)
                with suppress(PixelError):  # frames of two sizes are no pair
                    findings.flicker.add(*(x.clamp(0, 1)[None] for x in (sample.low, sample.high)))
    return findings


def _frames(reader: Reader, index: Index, first: int, before: int) -> Iterator[Frame]:
    """Two frames from number `first` on, or the last one; `before` are decoded for their sake."""
    times, key = index.times[first : first + 2], index.key_for(max(first - before, 0))
    return reader.frames(first, times, key, last=False)


def _spread_over(frames: int) -> list[int]:
    """Numbers of frames from all over a video, of which each has another after it if it can."""
    most = max(frames - 2, 0)
    return sorted({round(most * place / (PAIRS - 1)) for place in range(PAIRS)})


# --- rasters -----------------------------------------------------------------------------------


def _windows(shape: Sequence[int]) -> Iterator[Window]:
    """Windows from all over a raster of this shape."""
    times, _, depths, height, width = shape
    planes = [divmod(plane, depths) for plane in _evenly(times * depths, 1)]
    for t, z in planes:
        for y in _evenly(height, WINDOW_SIDE):
            for x in _evenly(width, WINDOW_SIDE):
                rows, columns = (y, min(y + WINDOW_SIDE, height)), (x, min(x + WINDOW_SIDE, width))
                yield Window((t, t + 1), (z, z + 1), rows, columns)


def _evenly(length: int, side: int) -> list[int]:
    """Where windows of a side begin, from the first one that there can be to the last."""
    last = max(length - side, 0)
    count = min(WINDOWS, math.ceil(length / side))
    return sorted({round(last * place / max(count - 1, 1)) for place in range(count)})


def _place_of(window: Window, shape: Sequence[int]) -> str:
    """Which plane a window is of, where there are several."""
    planes = (("time", window.t, shape[0]), ("depth", window.z, shape[2]))
    return ", ".join(f"{axis} {start}" for axis, (start, _), count in planes if count > 1)


def _in_numbers(ask: Disagreement, numbers: Numbers) -> Disagreement:
    """Asks about the numbers of a file, and answers in them."""
    low, span = numbers.range.low, numbers.range.high - numbers.range.low
    return lambda pixels: ask((pixels - low) / span) * span
