"""How much of the bare network's speed is left end to end.

``python benchmarks/throughput.py [CLIP] [--frames N] [--rounds N]``

The same frames go through the network alone, through decode, network and colour into a sink that
drops them, and into x264. Rounds are interleaved and the best of each is taken.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import make_clip

from srpipe import stream, zoo
from srpipe.color import to_rgb
from srpipe.device import keep_freed_memory
from srpipe.infer import Upscaler
from srpipe.io.video import VideoSink, VideoSource
from srpipe.jobs.enlarge import Enlarger


class Null:
    """A sink that drops its frames."""

    def write(self, frame):
        del frame


def limited(source, count):
    return itertools.islice(iter(source), count)


def bare(upscaler, clip, count):
    """Seconds of the network alone, decode and colour left out."""
    source = VideoSource(clip)
    pictures = [
        to_rgb([torch.from_numpy(p) for p in frame.planes], frame.layout)[:, :3]
        for frame in limited(source, count)
    ]
    source.close()
    began = time.perf_counter()
    for picture in pictures:
        upscaler(picture)
    return time.perf_counter() - began


def end_to_end(upscaler, clip, count, folder=None):
    """A summary of decode, network, and a null sink or x264."""
    source = VideoSource(clip)
    size = source.height * upscaler.scale, source.width * upscaler.scale
    part = Path(folder or tempfile.gettempdir()) / "throughput.mkv.part"
    sink = VideoSink(part, source, height=size[0], width=size[1], suffix=".mkv")
    enlarge = Enlarger(upscaler, sink.layout, size, cancelled=threading.Event())
    summary = stream.run(limited(source, count), enlarge, sink if folder else Null())
    sink.close() if folder else sink.abort()
    source.close()
    part.unlink(missing_ok=True)
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--model", default="eagcl-lite")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_freed_memory()  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        clip = args.clip or Path(folder) / "example.mp4"
        if args.clip is None:
            make_clip.main(str(clip))
        loaded = zoo.load(args.model)
        upscaler = Upscaler(
            loaded.network,
            scale=loaded.scale,
            halo=loaded.halo,
            exact=loaded.exact,
            alignment=loaded.alignment,
        )
        bare(upscaler, clip, 2)
        rounds = [
            (
                bare(upscaler, clip, args.frames),
                end_to_end(upscaler, clip, args.frames),
                end_to_end(upscaler, clip, args.frames, folder),
            )
            for _ in range(args.rounds)
        ]
    alone = min(r[0] for r in rounds)
    null = min((r[1] for r in rounds), key=lambda s: s.seconds)
    x264 = min((r[2] for r in rounds), key=lambda s: s.seconds)
    frames = null.frames
    print(f"{clip.name}, {frames} frames, {upscaler.device}, {upscaler.precision}")
    print(f"network alone  {frames / alone:7.3f} fps")
    print(f"null sink      {frames / null.seconds:7.3f} fps, {alone / null.seconds:.3f} of it")
    busiest = max(x264.busy.values())
    print(
        f"x264           {frames / x264.seconds:7.3f} fps, {busiest / x264.seconds:.3f} of its"
        f" slowest stage ({x264.limited_by}); busy {dict(x264.busy)}"
    )
    print(f"x264 against the network alone {alone / x264.seconds:.3f}")


if __name__ == "__main__":
    main()
