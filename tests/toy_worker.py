"""Loaded by each worker process of a test: the toy network, and what is to go wrong there.

The environment says what: SRPIPE_TEST_KILL=NAME ends the process, as the system does where memory
runs out, when the unit of that name begins; with SRPIPE_TEST_ONCE=FILE only where there is no such
file yet. SRPIPE_TEST_THREADS=FILE notes for each unit how many threads the network may have, and
SRPIPE_TEST_TORCH=VERSION is what the worker has of PyTorch.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
import toy

from srpipe.jobs import raster, software, video
from srpipe.models import MODELS

MODELS["toy"] = toy.SPEC
VICTIM = os.environ.get("SRPIPE_TEST_KILL")
ONCE = os.environ.get("SRPIPE_TEST_ONCE")
THREADS = os.environ.get("SRPIPE_TEST_THREADS")
TORCH = os.environ.get("SRPIPE_TEST_TORCH")


def deadly(begin):
    def begun(self, unit, *rest):
        if unit.name == VICTIM and not (ONCE and Path(ONCE).exists()):
            if ONCE:
                Path(ONCE).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if THREADS:
            with Path(THREADS).open("a") as file:
                file.write(f"{torch.get_num_threads()}\n")
        return begin(self, unit, *rest)

    return begun


video.VideoWorker.sink = deadly(video.VideoWorker.sink)
raster.RasterWorker._done = deadly(raster.RasterWorker._done)

if TORCH:
    HERE = software.versions() | {"torch": TORCH}
    software.versions = lambda: HERE
