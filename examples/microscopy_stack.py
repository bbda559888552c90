"""A stack with time, channels and depth in 12 bits: ``python examples/microscopy_stack.py``."""

import numpy as np

import srpipe


def main() -> None:
    stack = np.random.default_rng(0).integers(0, 4096, (2, 2, 1, 24, 32), dtype=np.uint16)
    larger = srpipe.upscale(stack, axes="TCZYX", model="rdam", range="0,4095")
    print(f"TCZYX {stack.shape} {stack.dtype} -> {larger.shape} {larger.dtype}")


if __name__ == "__main__":
    main()
