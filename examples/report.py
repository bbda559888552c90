"""What a result keeps of its input, and what it adds: ``python examples/report.py [FOLDER]``."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import srpipe


def main(folder: str) -> None:
    source = Path(folder) / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(60, 200, (24, 32, 3), "u1")).save(source)

    for way in ("off", "project"):
        result = srpipe.upscale(
            source, Path(folder) / f"{way}.png", model="rdam", report=True, consistency=way
        )
        told = json.loads(Path(f"{result}.report.json").read_text())
        error = max(band["rmse"] for band in told["agreement"]["bands"])
        print(f"consistency {way}: degraded back, it is {255 * error:.2f} levels from its input")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(*(sys.argv[1:] or [place]))
