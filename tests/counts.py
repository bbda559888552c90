"""What a network costs: parameters, and multiply-accumulates per input pixel."""

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def macs_per_pixel(build, size=(16, 16), **call):
    """Millions of products of weights with values; biases and activations are not counted."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build()(torch.rand(1, 3, *size), **call)
    return counter.get_total_flops() / 2 / (size[0] * size[1]) / 1e6
