"""Peak memory of the command for clips of 10 s and 60 s: ``python benchmarks/memory.py``."""

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

RUN = (
    "import resource, sys; from srpipe.cli import main; code = main(sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
)


def make(path, seconds, rate=12, height=48, width=64):
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        base = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for number in range(seconds * rate):
            image = np.roll(base, number, 1)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())


def peak_mib(clip, out):
    run = subprocess.run(
        [sys.executable, "-c", RUN, "upscale", str(clip), "-o", str(out), "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout.split()[-1]) / 1024


def main():
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (10, 60):
            clip = Path(folder) / f"{seconds}.mp4"
            make(clip, seconds)
            peak = peak_mib(clip, clip.with_name(f"{seconds}_out.mp4"))
            print(f"{seconds:3} s: peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
