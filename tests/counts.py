"""What a network costs: parameters, and multiply-accumulates per input pixel."""

import torch
from torch import nn


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def macs_per_pixel(build, size=(16, 16), **call):
    """Millions of products of weights with values, biases and activations not counted.

    Layers that see one value per image, such as those of a channel gate, are not counted either.
    """
    total = 0

    def add(layer, inputs, output):
        nonlocal total
        # A transposed convolution spends its products on input pixels.
        pixels = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        if output.shape[-1] > 1:
            total += layer.weight.numel() * pixels.shape[-2] * pixels.shape[-1]

    with torch.device("meta"):
        network = build()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(add)
        network(torch.rand(1, 3, *size), **call)
    return total / (size[0] * size[1]) / 1e6
