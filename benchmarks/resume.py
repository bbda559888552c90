"""What ten deaths cost a job: ``python benchmarks/resume.py [--frames N] [--kills N]``.

The same command is killed (SIGKILL) at random points of its work and given again until it is done.
Work is what the network was asked for, counted in frames by the network itself, which here only
repeats pixels and waits; its time stands for that of a real one. The file that comes out is
compared, frame by frame, with that of a run that nobody disturbed.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests"))


def child(weights, counter, words):
    """The command with the toy network, which adds a byte to a file for each frame."""
    import toy

    from srpipe.cli import main
    from srpipe.models import MODELS

    forward = toy.Toy.forward
    file = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def counted(self, x):
        os.write(file, b".")
        return forward(self, x)

    toy.Toy.forward = counted
    MODELS["toy"] = toy.SPEC
    sys.exit(main(["upscale", "-m", "toy", "--weights", weights, "--quiet", *words]))


def started(folder, *words):
    paths = str(folder / "weights"), str(folder / "count")
    return subprocess.Popen([sys.executable, str(HERE), "--child", *paths, *words])


def frames(path):
    """Times and hashes of all frames, as one hash."""
    digest, count = hashlib.sha256(), 0
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            digest.update(f"{frame.pts * frame.time_base}".encode())
            digest.update(frame.to_ndarray())
            count += 1
    return digest.hexdigest(), count


def counted(folder):
    path = folder / "count"
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size


def disturbed(folder, words, kills, of):
    """Frames that were computed, and seconds, over all runs of one command."""
    rng, computed, began = random.Random(0), 0, time.monotonic()
    path = folder / "count"
    for number in range(kills):
        command = started(folder, *words)
        stop = rng.randrange(1, 3 * of // (2 * kills))  # three quarters of the job in all
        while command.poll() is None and not (path.exists() and path.stat().st_size >= stop):
            time.sleep(0.002)
        assert command.poll() is None, f"done before it could be killed {number + 1} times"
        command.send_signal(signal.SIGKILL)
        command.wait()
        computed += counted(folder)
    assert started(folder, *words).wait() == 0
    return computed + counted(folder), time.monotonic() - began


def main():
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4], sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.002, help="of the network, a frame")
    args = parser.parse_args()
    import toy
    from test_video_resume import long_clip

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights").mkdir()
        toy.install(folder / "weights", sleep_s=args.seconds)
        clip = long_clip(folder / "in.mp4", frames=args.frames)
        began = time.monotonic()
        assert started(folder, str(clip), "-o", str(folder / "whole.mp4")).wait() == 0
        whole_s = time.monotonic() - began
        whole = counted(folder)
        words = str(clip), "-o", str(folder / "out.mp4")
        total, total_s = disturbed(folder, words, args.kills, args.frames)
        same = frames(folder / "out.mp4") == frames(folder / "whole.mp4")
    print(f"undisturbed {whole} frames, {whole_s:.1f} s")
    print(f"{args.kills} kills  {total} frames, {total_s:.1f} s with {args.kills + 1} starts")
    print(
        f"work {total / whole:.4f} of undisturbed; decoded frames {'equal' if same else 'DIFFER'}"
    )


if __name__ == "__main__":
    main()
