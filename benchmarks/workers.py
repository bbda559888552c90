"""Two workers against one, each with one thread, and what scheduling costs.

``OMP_NUM_THREADS=1 python benchmarks/workers.py [CLIP] [--model NAME] [--workers N]``

The second figure is of units that only wait: whatever the workers are not waiting is Dask's.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import make_clip

from srpipe import RunSettings
from srpipe.device import keep_freed_memory
from srpipe.jobs import upscale
from srpipe.jobs.job import Outcome, Receipt, Unit
from srpipe.jobs.spread import spread


@dataclass(frozen=True)
class Wait:
    """A job whose units take a known time."""

    seconds: float
    settings: RunSettings

    def begun(self, engine=None):
        return self

    def perform(self, units, *, done, advance, cancelled):
        for unit in units:
            began = time.monotonic()
            time.sleep(self.seconds)
            facts = {"began": began, "ended": time.monotonic()}
            done(
                Receipt(
                    unit=unit.name,
                    digest=unit.digest,
                    size=1,
                    checksum="",
                    bytes=0,
                    seconds=self.seconds,
                    facts=facts,
                )
            )
        return Outcome(busy=Counter())

    def close(self):
        pass


def overhead(workers, units, seconds):
    """The share of the workers' time between first and last unit in which they had none."""
    receipts = []
    spread(
        Wait(seconds, RunSettings(model="eagcl")),
        [Unit(f"{n:04}", 1, {"n": n}) for n in range(units)],
        workers=workers,
        scheduler=None,
        done=receipts.append,
        advance=lambda *_: None,
        cancelled=threading.Event(),
    )
    began = min(r.facts["began"] for r in receipts)
    ended = max(r.facts["ended"] for r in receipts)
    return 1 - units * seconds / (workers * (ended - began))


def enlarged(clip, folder, model, workers):
    settings = RunSettings(model=model, workers=workers, overwrite=True, dedupe="off")
    began = time.monotonic()
    result = upscale(clip, Path(folder) / f"{workers}.mp4", settings)
    return result.frames, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--model", default="eagcl-lite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=576, help="of the clip that is made")
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    keep_freed_memory()  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        clip = args.clip or Path(folder) / "example.mp4"
        if args.clip is None:
            make_clip.FRAMES = args.frames
            make_clip.main(str(clip))
        frames, one = enlarged(clip, folder, args.model, 1)
        _, many = enlarged(clip, folder, args.model, args.workers)
    print(f"{clip.name}, {frames} frames, {args.model}, starts and join included")
    print(f"1 worker {one:.1f} s, {args.workers} workers {many:.1f} s: {one / many:.2f} times")
    idle = overhead(args.workers, args.units, args.seconds)
    print(f"{args.units} units of {args.seconds:g} s on {args.workers} workers: {idle:.2%} idle")


if __name__ == "__main__":
    main()
