"""A NumPy array in, a larger one out: ``python examples/numpy_array.py``."""

import numpy as np

import srpipe


def main() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    larger = srpipe.upscale(picture, model="rdam", scale=2)
    print(f"{picture.shape} {picture.dtype} -> {larger.shape} {larger.dtype}")


if __name__ == "__main__":
    main()
