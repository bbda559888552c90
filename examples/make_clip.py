"""Make a small clip with sound: ``python examples/make_clip.py [example.mp4]``.

Two seconds of turning discs and text-like bars at uneven frame times, 96 x 72 px, with a tone.
"""

import sys
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 96, 72, 24
RATE = 22050


def picture(turn: float) -> np.ndarray:
    """One frame, uint8 RGB of shape (HEIGHT, WIDTH, 3); ``turn`` in radians."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    spokes = np.arctan2(y - 36, x - 34) * 6 + turn
    rings = np.hypot(y - 36, x - 34)
    wheel = 0.5 + 0.5 * np.tanh(3 * np.sin(spokes)) * (rings < 30)
    bars = ((x.astype(int) // 2 + (y.astype(int) // 6) * 3) % 3 == 0) & (x > 68)
    grey = np.where(x > 68, np.where(bars, 0.1, 0.9), wheel)
    color = np.stack((grey, grey * 0.9 + 0.05, 0.25 + 0.6 * grey), -1)
    color[rings < 6] = (0.85, 0.2, 0.15)
    return (color * 255).round().astype(np.uint8)


def tone(samples: int) -> np.ndarray:
    """A quiet A, float32 of shape (1, samples) in [-1, 1]."""
    return (0.1 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)).astype(np.float32)[None]


def main(path: str = "example.mp4") -> None:
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "14"}
        context = video.codec_context
        context.time_base = Fraction(1, 600)
        context.colorspace = context.color_primaries = context.color_trc = 6  # SMPTE 170M
        context.color_range = 1  # limited
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number * 0.12), format="rgb24")
            frame.pts, frame.time_base = number * 50 + number % 3 * 10, Fraction(1, 600)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(tone(2 * RATE), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    print(f"{path}: {FRAMES} frames of {WIDTH} x {HEIGHT} px, with sound")


if __name__ == "__main__":
    main(*sys.argv[1:])
