"""A picture and a folder of them, by their paths: ``python examples/files.py [FOLDER]``."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import srpipe


def main(folder: str) -> None:
    source = Path(folder) / "photos"
    source.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), "u1")).save(
            source / name
        )

    print(srpipe.upscale(source / "a.png", Path(folder) / "a_large.png", model="rdam"))
    print(srpipe.upscale(source, Path(folder) / "larger", model="rdam"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(*(sys.argv[1:] or [place]))
