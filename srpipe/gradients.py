"""Gradient maps as the gradient-guided papers define them (EAGCL-SR, GPSR, DGGN; SPSR)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6
"""Added under the root so that its slope is finite where the image is flat (SPSR's code)."""


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Within it, what is computed on the tensor's device keeps its own precision under autocast."""
    if x.device.type == "meta":  # which has no autocast to switch off
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def gradient_map(image: Tensor, *, padding: Literal["replicate", "zero"] = "replicate") -> Tensor:
    """Length of the central-difference gradient of every channel: the root of v² + h² + 1e-6.

    ``v = I[y + 1, x] - I[y - 1, x]``, ``h = I[y, x + 1] - I[y, x - 1]``; computed in float32 at
    least, whatever the caller's autocast state, since the root is ill-conditioned near zero.

    Parameters
    ----------
    image : Tensor of shape (N, C, H, W), float, in [0, 1]
    padding : "replicate" repeats the border; "zero", as the reference code does, paints a bright
        frame on every border, and so on every tile

    Returns
    -------
    Tensor of the image's shape, in the image's units per two pixels; 1e-3 where it is flat
    """
    with full_precision(image):
        x = image if image.dtype == torch.float64 else image.float()
        mode = "constant" if padding == "zero" else "replicate"
        x = F.pad(x, (1, 1, 1, 1), mode=mode)
        v = x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
        h = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
        return (v.square() + h.square() + FLOOR).sqrt()
