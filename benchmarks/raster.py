"""Peak memory of rasters of growing size, and what scheduling many blocks costs.

``python benchmarks/raster.py [--sides 5000 10000 20000] [--ending .ome.zarr] [--workers 2]``

The network is bicubic interpolation, so that what is measured is everything else. Memory is that of
all processes together; a page that they share counts once (Linux's proportional set size).
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
import torch
import torch.nn.functional as F
from torch import nn

from srpipe import RunSettings, zoo
from srpipe.device import keep_freed_memory
from srpipe.jobs import upscale
from srpipe.models import MODELS, ModelSpec

HALO = 2


class Bicubic(nn.Module):
    def __init__(self, *, scale, sleep_s=0.0):
        super().__init__()
        self.scale, self.sleep_s = scale, sleep_s
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        time.sleep(self.sleep_s)
        size = [side * self.scale for side in x.shape[2:]]
        return F.interpolate(x, size, mode="bicubic") * self.gain


MODELS["bicubic"] = ModelSpec(
    build=Bicubic, scales=(2,), presets={"lite": {}}, halo=lambda **_: HALO, source="this file"
)


def install(folder, sleep_s=0.0):
    """Weights of it, with their card; 16 MiB of them would be a network."""
    folder.mkdir()
    state = Bicubic(scale=2).state_dict()
    zoo.Card(
        family="bicubic",
        preset="lite",
        scale=2,
        stage="fidelity",
        options={"sleep_s": sleep_s},
        parameters=1,
        halo=HALO,
        files=zoo.store(state, folder, "bicubic-lite-x2-fidelity"),
        folder=folder,
    ).write()
    return folder


def make(path, side, tile=512):
    """A uint16 BigTIFF of waves, tile by tile."""
    y, x = np.mgrid[:tile, :tile] / 40

    def tiles():
        for row in range(-(-side // tile)):
            for column in range(-(-side // tile)):
                yield ((np.sin(y + row) * np.cos(x + column) + 1) * 30000).astype(np.uint16)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side),
        dtype=np.uint16,
        tile=(tile, tile),
        bigtiff=True,
        compression="zlib",
        photometric="minisblack",
    )


def enlarged(source, target, weights, workers):
    """What a process of its own does."""
    import dask
    import distributed

    keep_freed_memory()  # as the command does
    settings = RunSettings(model="bicubic", weights=weights, workers=workers or None)
    with dask.config.set({"distributed.worker.preload": [__file__]}):
        result = upscale(source, target, settings)
    assert distributed
    print(result.numbers["blocks"], result.seconds)


def measured(*words):
    """Blocks, seconds, and the peak memory of a process and all that it starts."""
    command = [sys.executable, __file__, "--one", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, over = [0], threading.Event()

    def look():
        root = psutil.Process(process.pid)
        while not over.wait(0.5):
            total = 0
            for each in (root, *root.children(recursive=True)):
                try:
                    total += each.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total)

    watch = threading.Thread(target=look)
    watch.start()
    out, _ = process.communicate()
    over.set()
    watch.join()
    blocks, seconds = out.split()[-2:]
    return int(blocks), float(seconds), peak[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--sides", nargs="*", type=int, default=[5000, 10000, 20000])
    parser.add_argument("--ending", default=".ome.zarr")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that a block takes more")
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary one)")
    args = parser.parse_args()
    if args.one:
        source, target, weights, workers = args.one
        enlarged(Path(source), Path(target), Path(weights), int(workers))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        here = Path(folder)
        weights = install(here / "weights", args.sleep)
        for side in args.sides:
            source = here / f"{side}.ome.tif"  # as OME, it is a raster however small
            make(source, side)
            blocks, seconds, peak = measured(
                source, here / f"{side}_x2{args.ending}", weights, args.workers
            )
            ideal = blocks * args.sleep / max(args.workers, 1)
            share = f", {ideal / seconds:.0%} of it in the network" if args.sleep else ""
            print(
                f"{side} x {side}: {blocks} blocks in {seconds:.0f} s{share}, peak"
                f" {peak / 2**20:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
