"""The types that a network computes in, and the way there and back."""

import contextlib
import copy
import itertools
import threading
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_BF16_ON_CUDA = 8, 0  # compute capability: Ampere; AMD's are above it, and have it

_float32_on_cuda = threading.RLock()  # statistics are gathered within a call that has it


def best(device: torch.device, among: Collection[str] = tuple(DTYPES)) -> str:
    """The fastest of these types, by name, that a device computes in fast; else float32.

    A CPU does bfloat16 fast with AMX. With AVX512-bf16 alone it multiplies no more numbers at once
    than in float32 and has more to convert: our networks took 1.3 to 1.6 times as long.
    CUDA cards are about as fast in both, and float16 has three bits more: on an H200 it took
    `eagcl` 0.75 times as long as bfloat16, `dggn` 0.8 to 0.95 times and `rdam` 1.04 to 1.1 times.
    """
    if device.type == "cuda":
        fast = ["fp16", "bf16"] if native(device, "bf16") else ["fp16"]
    else:
        has = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
        fast = ["bf16"] if has else []  # the question is private: it may go any time
    return next((name for name in fast if name in among), "fp32")


def best_layout(device: torch.device, precision: str) -> torch.memory_format:
    """How the numbers of a feature map lie in memory where a network is fast on a device.

    With the channels of a pixel side by side, but for float32 on CUDA: there that took our networks
    1.1 to 2.4 times as long as channel by channel, on an H200.
    """
    plain = device.type == "cuda" and precision == "fp32"
    return torch.contiguous_format if plain else torch.channels_last


def native(device: torch.device, name: str) -> bool:
    """Whether a device has instructions for a type, which need not make it the faster one."""
    if name == "fp32":
        return True
    if device.type == "cpu":
        ask = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", bool)
        return bool(ask())  # private, as the question above
    if name == "fp16" or device.type != "cuda":
        return True
    # not is_bf16_supported, which asks the current device, and is content with emulation
    return torch.cuda.get_device_capability(device) >= _BF16_ON_CUDA


def lower(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network that computes in `dtype`, and takes and gives float32 still.

    The children that its attribute ``float32`` names are not cast, nor those that the same
    attribute of one of its parts names, and neither are buffers: what sees pixels and what makes
    them decides the last bits. A network without the attribute is cast whole.
    """
    network = copy.deepcopy(network)
    if getattr(network, "float32", None) is None:
        return _Cast(network.to(dtype), dtype)
    _cast(network, dtype)
    return network


def _cast(part: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters, but for those of the children that ``float32`` names."""
    for parameter in part.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)
    for name, child in part.named_children():
        if name not in getattr(part, "float32", ()):
            _cast(child, dtype)


def numbers(network: nn.Module) -> dict[str, Tensor]:
    """Floating-point parameters and buffers by name, the same before and after `lower`."""
    network = network.inner if isinstance(network, _Cast) else network
    named = itertools.chain(network.named_parameters(), network.named_buffers())
    return {name: tensor for name, tensor in named if tensor.is_floating_point()}


def raised(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a lowered network in float32, with the weights that it was lowered from.

    Whatever it came to hold since, such as statistics of an image, it keeps.
    """
    network = copy.deepcopy(network)
    low = {name for name, tensor in numbers(network).items() if tensor.dtype != torch.float32}
    now = numbers(network.float())
    with torch.no_grad():
        for name in low & weights.keys():
            now[name].copy_(weights[name])
    return network


@contextlib.contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Convolve with all 24 bits: CUDA drops 13 of them unless told, and that for the process.

    The one switch that convolutions have of their own is turned: the old one, for all of cuDNN, is
    an error in a process that uses the new ones, and overruled by theirs for all operations.
    """
    if device.type != "cuda":
        yield
        return
    with _float32_on_cuda:
        if not hasattr(torch.backends.cudnn, "conv"):  # before PyTorch 2.9
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
            return
        before = torch.backends.cudnn.conv.fp32_precision
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        try:
            yield
        finally:
            torch.backends.cudnn.conv.fp32_precision = before


class _Cast(nn.Module):
    """A network in another type behind a face of float32."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def float(self) -> "_Cast":
        self.dtype = torch.float32
        return super().float()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.to(self.dtype)).float()
