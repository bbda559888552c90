"""Which type a network computes in."""

import threading

import pytest
import torch

from srpipe.precision import DTYPES, best, best_layout, native, whole_float32

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AMPERE, TURING = (8, 0), (7, 5)


@pytest.mark.parametrize(
    ("capability", "among", "wanted"),
    [
        (AMPERE, DTYPES, "fp16"),
        (AMPERE, ("fp32", "bf16"), "bf16"),
        (TURING, DTYPES, "fp16"),
        (AMPERE, ("fp32", "fp16"), "fp16"),
        (AMPERE, ("fp32",), "fp32"),
        (TURING, ("fp32", "bf16"), "fp32"),
    ],
)
def test_a_graphics_processor_takes_the_fastest_type_that_serves(
    monkeypatch, capability, among, wanted
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert best(CUDA, among) == wanted


@pytest.mark.parametrize(("amx", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_a_processor_takes_bfloat16_with_amx_alone(monkeypatch, amx, wanted):
    """With AVX512-bf16 but no AMX it was the slower of the two."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert best(CPU) == wanted


def test_a_processor_takes_16_bits_only_where_they_serve():
    assert best(CPU, ("fp32", "fp16")) == "fp32"


@pytest.mark.parametrize(("capability", "wanted"), [(AMPERE, DTYPES), (TURING, ("fp32", "fp16"))])
def test_what_a_graphics_processor_has_units_for(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert [name for name in DTYPES if native(CUDA, name)] == list(wanted)


def test_of_two_graphics_processors_the_one_that_is_meant_is_asked(monkeypatch):
    """The first one's answer was taken for all, and emulation was taken for units."""
    here = {torch.device("cuda:0"): AMPERE, torch.device("cuda:1"): TURING}
    monkeypatch.setattr(torch.cuda, "get_device_capability", here.__getitem__)
    assert [best(device, ("fp32", "bf16")) for device in here] == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("device", "precision", "wanted"),
    [
        (CUDA, "fp32", torch.contiguous_format),
        (CUDA, "fp16", torch.channels_last),
        (CUDA, "bf16", torch.channels_last),
        (CPU, "fp32", torch.channels_last),
        (CPU, "bf16", torch.channels_last),
    ],
)
def test_channels_lie_side_by_side_but_for_float32_on_cuda(device, precision, wanted):
    assert best_layout(device, precision) == wanted


def test_a_processor_that_is_fast_in_a_type_has_units_for_it():
    assert native(CPU, "fp32")
    assert native(CPU, best(CPU))


@pytest.fixture
def conv():
    """PyTorch's switch for convolutions on CUDA, which is there without a device too."""
    every, conv = torch.backends.fp32_precision, torch.backends.cudnn.conv
    before = conv.fp32_precision
    yield conv
    torch.backends.fp32_precision, conv.fp32_precision = every, before


@pytest.mark.parametrize("own", ["tf32", "ieee"])
@pytest.mark.parametrize("every", ["none", "tf32", "ieee"])
def test_float32_is_whole_whatever_the_process_has_chosen(monkeypatch, conv, every, own):
    """With PyTorch's old switch it was not, or an error, where the process used the new ones."""
    torch.backends.fp32_precision, conv.fp32_precision = every, own
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with whole_float32(CUDA):
        assert conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.enabled
        assert torch.backends.cudnn.deterministic
    assert conv.fp32_precision == own


def test_a_thread_does_not_wait_for_itself_to_let_go_of_float32(conv):
    """Statistics of an image in tiles are gathered within a call, and no such call ended."""
    seen = []

    def twice():
        with whole_float32(CUDA), whole_float32(CUDA):
            seen.append(conv.fp32_precision)

    thread = threading.Thread(target=twice, daemon=True)
    thread.start()
    thread.join(10)
    assert seen == ["ieee"]
