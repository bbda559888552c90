"""A tensor in, a tensor on the same device out: ``python examples/torch_tensor.py``."""

import torch

import srpipe


def main() -> None:
    batch = torch.rand(2, 3, 24, 32)
    larger = srpipe.upscale(batch, model="rdam", scale=2)
    print(f"{tuple(batch.shape)} -> {tuple(larger.shape)} on {larger.device}")


if __name__ == "__main__":
    main()
